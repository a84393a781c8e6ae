package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs are the pages of this repository.
var docs = pages{dir: filepath.Join("..", "..", "docs")}

// TestThePagesHaveTheFiguresOfTheCSV fails where a table was edited, or the CSV has runs that are not in it.
func TestThePagesHaveTheFiguresOfTheCSV(t *testing.T) {
	results, err := docs.results()
	require.NoError(t, err)
	shown := ""
	for _, path := range docs.texts() {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		want, err := fill(string(text), results)
		require.NoError(t, err)
		assert.Equal(t, want, string(text), "%s is not of the CSV: GOWORK=off go run . tables", path)
		shown += string(text)
		for _, image := range regexp.MustCompile(`[\w/]+\.svg`).FindAllString(string(text), -1) {
			assert.FileExists(t, filepath.Join(filepath.Dir(path), image))
		}
	}
	for name := range tables() {
		assert.Contains(t, shown, "<!-- bench: "+name+" -->", "no page has the table")
	}
}

func TestThePageForUsersIsShort(t *testing.T) {
	text, err := os.ReadFile(docs.texts()[0])
	require.NoError(t, err)
	assert.LessOrEqual(t, strings.Count(string(text), "\n"), 80)
}

func TestOfAWorkloadTheLastCommitIsShown(t *testing.T) {
	at := func(commit string, seconds float64) []sample {
		all := runsOf("D1", append(runs("transfer", seconds), runs("oras", seconds/2)...))
		for i := range all {
			all[i].commit = commit
		}
		return all
	}
	results := resultsOf(append(append(at("old", 8), at("new", 2)...), at("new", 4)...))
	require.Len(t, results, 1)
	assert.Equal(t, "new", results[0].commit)
	assert.InDelta(t, 3, medianOf(results[0].rows, "transfer"), 1e-9, "both runs at that commit")

	cells := besides(results, []string{"D1", "D2"}, libraryPeers)
	assert.Equal(t, []string{"3", "**1.5**", "–", "–", "–"}, cells[1][2:7])
	assert.Equal(t, "not yet", cells[2][7])
	assert.Equal(t, []string{"D1", "2,000 x 64 KiB", "oras 0.50", reasons["D1"]}, slower(results)[1])
}

func TestTargetsThatAreMissedComeFirst(t *testing.T) {
	samples := runsOf("D1", append(runs("floor@8", 1), runs("transfer", 1)...))
	samples = append(samples, runsOf("D4", append(runs("transfer", 2), runs("oras", 2)...))...)
	samples = append(samples, runsOf("C1/D1", append(runs("transfer", 4), runs("transfer@8", 4)...))...)
	assert.Equal(t, [][]string{
		{"row", "target", "measured", ""},
		{"D4", "≤ 0.65 × best peer", "1.00", "missed"},
		{"D1", "≤ 1.1 × floor", "1.00", "met"},
		{"C1/D1", "≤ 1.1 × best fixed number", "1.00", "met"},
	}, missedAndMet(resultsOf(samples)))
}

func TestMarkersOfAPage(t *testing.T) {
	page := "before\n<!-- bench: slower -->\nold\n<!-- end -->\nafter\n"
	filled, err := fill(page, nil)
	require.NoError(t, err)
	assert.Regexp(t, "(?s)^before\n.*\\| row .*\nafter\n$", filled)
	assert.NotContains(t, filled, "old")
	_, err = fill("<!-- bench: slower -->\n", nil)
	require.Error(t, err)
	_, err = fill("<!-- bench: nothing -->\n<!-- end -->", nil)
	require.ErrorContains(t, err, "nothing")
}

// TestRunsAreRecorded measures into a repository of its own.
func TestRunsAreRecorded(t *testing.T) {
	p := pages{dir: t.TempDir()}
	require.NoError(t, os.MkdirAll(p.file(""), 0o755))
	for _, page := range p.texts() {
		require.NoError(t, os.WriteFile(page, []byte("<!-- bench: libraries -->\n<!-- end -->\n"), 0o644))
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."},
		{"-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "first"}} {
		require.NoError(t, exec.Command("git", append([]string{"-C", p.dir}, args...)...).Run())
	}
	require.NoError(t, p.add(runsOf("D1", runs("transfer", 1, 2))))
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "changed.go"), nil, 0o644))
	require.NoError(t, p.add(runsOf("D2", runs("transfer", 7))))
	require.NoError(t, p.write())
	text, err := os.ReadFile(p.texts()[0])
	require.NoError(t, err)
	assert.Contains(t, string(text), "**1.5**")
	results, err := p.results()
	require.NoError(t, err)
	require.Len(t, results, 2)
	assert.Regexp(t, "^[0-9a-f]{7,}$", results[0].commit)
	assert.Equal(t, results[0].commit+" and changes", results[1].commit)
	assert.FileExists(t, p.file("small.svg"))
	var out strings.Builder
	require.NoError(t, p.show(&out))
	assert.Contains(t, out.String(), "**D2** 256 x 4 MiB: 1 rounds")
}
