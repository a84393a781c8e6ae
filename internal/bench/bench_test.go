package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be the registry and the contenders too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == roleRegistry || os.Args[1] == roleContender) {
		if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rowsOf runs the program and returns its rows by contender.
func rowsOf(t *testing.T, args ...string) map[string][]string {
	t.Helper()
	tmp := t.TempDir()
	var out strings.Builder
	require.NoError(t, run(t.Context(), append(args, "-tmp", tmp, "-disk", tmp), &out))
	rows := make(map[string][]string)
	for line := range strings.Lines(out.String()) {
		if cells := cellsOf(strings.TrimSpace(line)); len(cells) > 1 {
			rows[cells[0]] = cells
		}
	}
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	assert.Empty(t, left, "nothing is left behind")
	return rows
}

func TestSmallDownload(t *testing.T) {
	dir := t.TempDir()
	rows := rowsOf(t, "-workload", "D1", "-scale", "0.01", "-rounds", "1", "-contenders", "floor@4,transfer",
		"-cpuprofile", dir)
	for _, name := range []string{"floor (4)", "transfer"} {
		require.Contains(t, rows, name)
		assert.Equal(t, "20", rows[name][6], "one request per blob")
		assert.Equal(t, "1.000", rows[name][8])
	}
	fi, err := os.Stat(filepath.Join(dir, "D1-transfer.pprof"))
	require.NoError(t, err)
	assert.Positive(t, fi.Size())
}

func TestEveryLibraryMovesBothWays(t *testing.T) {
	for _, workload := range []string{"D1", "U1"} {
		rows := rowsOf(t, "-workload", workload, "-scale", "0.005", "-rounds", "1", "-warm=false")
		for _, name := range libraries {
			require.Contains(t, rows, name)
			assert.NotEqual(t, "–", rows[name][1], "%v", rows[name])
		}
	}
}

func TestWhatAContenderCannotDoIsSaid(t *testing.T) {
	rows := rowsOf(t, "-workload", "D1,U1", "-scale", "0.005", "-rounds", "1", "-contenders", "curl")
	assert.Contains(t, rows["curl"][12], "cannot upload")
}

// What has not changed of a model is taken from the older version.
func TestUpdates(t *testing.T) {
	for workload, most := range map[string]float64{"R1": 0.02, "R2": 0.03} {
		rows := rowsOf(t, "-workload", workload, "-scale", "0.05", "-rounds", "1", "-warm=false")
		for _, name := range []string{"copy", "reuse", "transfer"} {
			require.Contains(t, rows, name)
			assert.NotEqual(t, "–", rows[name][1], "%v", rows[name])
		}
		moved, err := strconv.ParseFloat(rows["reuse"][8], 64)
		require.NoError(t, err)
		assert.LessOrEqual(t, moved, most, workload)
	}
}

func TestKilledAndRunAgain(t *testing.T) {
	rows := rowsOf(t, "-workload", "D9", "-scale", "0.02", "-rounds", "2", "-contenders", "transfer")
	require.Contains(t, rows, "transfer")
	assert.NotEqual(t, "–", rows["transfer"][1], "%v", rows["transfer"])
}

func TestMostIsThereAlready(t *testing.T) {
	rows := rowsOf(t, "-workload", "M2", "-scale", "0.002", "-rounds", "1", "-contenders", "floor@4,transfer")
	for _, name := range []string{"floor (4)", "transfer"} {
		assert.Equal(t, "2", rows[name][6], "a request for what is missing only")
	}
}

// TestNoRoundBeginsWhenTheTimeIsOver asks for more rounds than there can be.
func TestNoRoundBeginsWhenTheTimeIsOver(t *testing.T) {
	rows := rowsOf(t, "-workload", "U1", "-scale", "0.005", "-rounds", "1000000", "-for", "1s", "-warm=false",
		"-contenders", "floor@4")
	assert.NotEqual(t, "–", rows["floor (4)"][1])
	err := run(t.Context(), []string{"-workload", "U1", "-scale", "0.005", "-for", "1ns"}, io.Discard)
	assert.ErrorContains(t, err, "no time is left")
}

func TestUnknownCommand(t *testing.T) {
	assert.ErrorContains(t, run(t.Context(), []string{"plot"}, nil), "plot")
	assert.Error(t, run(t.Context(), []string{roleRegistry}, nil))
}
