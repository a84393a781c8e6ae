package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTable(t *testing.T) {
	w := workload{name: "D0", title: "test", sets: []set{{10, 1e6}}}
	samples := append(runs("floor@8", 1, 1, 1), runs("transfer", 1, 2, 3)...)
	for i := range samples {
		samples[i].of[body], samples[i].of[twice], samples[i].of[requests] = 15e6, 5e6, 12
		samples[i].of[mallocs] = 500
	}
	samples = append(samples, sample{name: "curl", cannot: "cannot: not installed"})
	var out strings.Builder
	require.NoError(t, writeTable(&out, w, summarize(samples)))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	assert.Equal(t, "**D0** test: 3 rounds, 10 MB", lines[0])
	require.Len(t, lines, 7)
	assert.Equal(t, []string{"transfer", "1–2–3", "2.00", "1.00", "0.00", "0", "12", "0", "1.500", "5.0",
		"200000", "50"}, cellsOf(lines[5])[:12])
	assert.Equal(t, "1.00", cellsOf(lines[4])[2], "the floor against itself")
	assert.Contains(t, lines[6], "not installed")
	for _, l := range lines[3:] {
		assert.Len(t, []rune(l), len([]rune(lines[2])), "columns are aligned")
	}
}

func cellsOf(line string) (cells []string) {
	for c := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
		cells = append(cells, strings.TrimSpace(c))
	}
	return cells
}

func TestOnlyWhatIsMissingCountsAsBlobs(t *testing.T) {
	w := workload{sets: []set{{100, 1000}}, destination: destination{present: 0.99}}
	r := summary{name: "transfer"}
	r.of[body].median = 1000
	assert.Equal(t, "1.000", r.cells(w, 0, 0)[8])
}

// TestCSVIsReadAsItWasWritten adds runs twice.
func TestCSVIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runs.csv")
	samples := runs("transfer", 1.5, 2)
	for i := range samples {
		samples[i].workload, _ = findWorkload("D5")
		samples[i].commit, samples[i].day = "0123456", "2026-11-28"
		samples[i].of[cpu], samples[i].of[memory], samples[i].of[twice] = 0.123456, 3e8, 1
	}
	samples[1].failure = "status 500"
	require.NoError(t, appendCSV(path, samples[:1]))
	require.NoError(t, appendCSV(path, samples[1:]))
	read, err := readCSV(path)
	require.NoError(t, err)
	assert.Equal(t, samples, read)
	samples[0].workload.title = "D5 as it was before"
	require.NoError(t, appendCSV(path, samples))
	_, err = readCSV(path)
	require.ErrorContains(t, err, "as it was before", "it is no run of this workload")
	require.Error(t, appendCSV(filepath.Join(path, "x"), nil))
}

func TestChartsAreDrawnForEachGroup(t *testing.T) {
	dir := t.TempDir()
	var samples []sample
	for _, name := range []string{"D1", "D2", "D3", "D4", "D5"} {
		samples = append(samples, runsOf(name, append(runs("floor@8", 1, 2), runs("transfer", 2, 3)...))...)
	}
	samples = append(samples, runsOf("D6", []sample{{name: "curl", failure: "status 500"}})...)
	require.NoError(t, drawCharts(dir, resultsOf(samples)))
	for _, file := range []string{"small.svg", "large.svg"} {
		svg, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		assert.Contains(t, string(svg), "floor (8)")
	}
}

// runsOf are runs of a workload.
func runsOf(name string, runs []sample) []sample {
	for i := range runs {
		runs[i].workload, _ = findWorkload(name)
	}
	return runs
}
