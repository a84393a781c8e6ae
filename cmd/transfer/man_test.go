package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheManualHasEachCommand(t *testing.T) {
	page := must(t, "man").stdout
	for _, want := range []string{".TH", "transfer-pull", "transfer-serve", "--platform"} {
		assert.Contains(t, strings.ReplaceAll(page, `\-`, "-"), want)
	}
	dir := t.TempDir()
	must(t, "man", dir)
	assert.FileExists(t, filepath.Join(dir, "transfer-push.1"))
}

func TestTheManualIsWrittenForRoff(t *testing.T) {
	assert.Equal(t, "a\n\\&.git\n\\&'s\nC:\\edir \\-\\-flag", roff("a\n.git\n's\nC:\\dir --flag"))
	assert.Contains(t, must(t, "man").stdout, ".TP\n\\fB\\-\\-json\\fP\nprint one JSON event a line\n")
}

func TestTheHelpOfCompletionNamesTheShells(t *testing.T) {
	text := runWith(t, "help", "completion").stdout
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		assert.Contains(t, text, shell)
	}
}

func TestACompletionIsPrinted(t *testing.T) {
	assert.Contains(t, must(t, "completion", "bash").stdout, "__start_transfer")
	assert.Equal(t, `transfer: no completion for "nope"; there is one for bash, zsh, fish, powershell `+
		"(see: transfer help)\n", runWith(t, "completion", "nope").stderr)
}
