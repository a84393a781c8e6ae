package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/bench/registry"
)

func TestTable(t *testing.T) {
	w := workload{name: "D0", title: "test", sets: []set{{10, 1e6}}}
	samples := append(runs("floor@8", 1, 1, 1), runs("transfer", 1, 2, 3)...)
	for i := range samples {
		samples[i].counts = registry.Counts{Body: 15e6, Duplicates: 5e6, Requests: 12}
		samples[i].mallocs = 500
	}
	samples = append(samples, sample{name: "curl", cannot: "cannot: not installed"})
	var out strings.Builder
	require.NoError(t, writeTable(&out, w, summarize(samples)))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	assert.Equal(t, "**D0** test: 3 rounds, 10 MB", lines[0])
	require.Len(t, lines, 7)
	assert.Equal(t, []string{"transfer", "1–2–3", "2.00", "1.00", "0.00", "0", "12", "0", "1.500", "5.0",
		"50"}, cellsOf(lines[5])[:11])
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
	w := workload{sets: []set{{100, 1000}}, present: 0.99}
	r := summary{name: "transfer", body: 1000}
	assert.Equal(t, "1.000", r.cells(w, 0, 0)[8])
}

func TestCSVHasEveryRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runs.csv")
	samples := runs("transfer", 1.5, 2)
	samples[0].counts.Methods = map[string]int64{"PUT": 2, "HEAD": 1}
	require.NoError(t, writeCSV(path, samples))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	require.Len(t, records, 3)
	assert.Equal(t, "wall_s", records[0][4])
	assert.Equal(t, "1.5", records[1][4])
	assert.Equal(t, "HEAD:1 PUT:2", records[1][9])
	require.Error(t, writeCSV(filepath.Join(path, "x"), nil))
}

func TestChartsAreDrawnForEachGroup(t *testing.T) {
	dir := t.TempDir()
	var samples []sample
	for _, name := range []string{"D1", "D2", "D3", "D4", "D5"} {
		w, ok := findWorkload(name)
		require.True(t, ok)
		for _, s := range append(runs("floor@8", 1, 2), runs("transfer", 2, 3)...) {
			s.workload = w
			samples = append(samples, s)
		}
	}
	failed := sample{name: "curl", failure: "status 500"}
	failed.workload, _ = findWorkload("D6")
	require.NoError(t, drawCharts(dir, append(samples, failed)))
	for _, file := range []string{"small.svg", "large.svg"} {
		svg, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		assert.Contains(t, string(svg), "floor (8)")
	}
}
