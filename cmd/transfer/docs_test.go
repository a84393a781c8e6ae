package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Command lines of a page: set in, behind a prompt or a pipe, up to a pipe or a remark; or in the text.
var (
	setIn  = regexp.MustCompile(`(?m)^    (?:.*[|$] )?transfer ([^|#\n]*)`)
	inText = regexp.MustCompile("`transfer ([^`|]+)`")
)

// What the pages and the help say can be typed.
func TestCommandLinesOfTheDocsAreUnderstood(t *testing.T) {
	texts := map[string]string{}
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	for _, page := range append(pages, "../../README.md") {
		data, err := os.ReadFile(page)
		require.NoError(t, err)
		texts[page] = strings.ReplaceAll(string(data), "\\\n", "") // lines that go on
	}
	for _, c := range newRoot(new(app)).Commands() {
		texts["help "+c.Name()] = strings.ReplaceAll(c.Example, "  ", "    ")
	}
	found := 0
	for place, text := range texts {
		lines := append(setIn.FindAllStringSubmatch(text, -1), inText.FindAllStringSubmatch(text, -1)...)
		for _, line := range lines {
			found++
			args := strings.Fields(strings.ReplaceAll(line[1], "'", ""))
			assert.NoError(t, understands(args), "%s: %s", place, line[0])
		}
	}
	assert.Greater(t, found, 60)
	assert.Error(t, understands([]string{"pull", "--fast", "a"}))
	assert.Error(t, understands([]string{"fetch", "a"}))
}

// understands is the error of a command line that is not understood.
func understands(args []string) error {
	root := newRoot(&app{getenv: noEnv})
	c, rest, err := root.Find(args)
	if err == nil && c == root && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		err = unknownCommand(root, rest)
	}
	if err == nil {
		err = c.ParseFlags(rest)
	}
	if err == nil && c.Args != nil && c.Runnable() && c != root {
		err = c.ValidateArgs(c.Flags().Args())
	}
	return err
}
