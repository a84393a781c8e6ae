package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/bench/contender"
	"github.com/modeltransfer/transfer/internal/bench/programs"
)

func TestWorkloadsAreWellFormed(t *testing.T) {
	all, err := findWorkloads([]string{"all"})
	require.NoError(t, err)
	names := make(map[string]bool)
	for _, w := range all {
		assert.False(t, names[w.name], "%s twice", w.name)
		names[w.name] = true
		assert.NotEmpty(t, w.title)
		assert.NotEmpty(t, w.chart)
		assert.Equal(t, w.task == nil, w.bytes() > 0)
		for _, c := range w.contenders {
			if w.task != nil {
				assert.Contains(t, programs.Names(), c, w.name)
			} else {
				assert.NoError(t, contender.Known(c), w.name)
			}
		}
	}
	assert.Len(t, all, len(workloads()))
	one, err := findWorkloads([]string{"C1/D2"})
	require.NoError(t, err)
	require.Len(t, one, 1)
	assert.Equal(t, "C1/D2", one[0].name)
	far, err := findWorkloads([]string{"W2", "C"})
	require.NoError(t, err)
	require.Len(t, far, 6, "all that begin with W2, and C but not C1/D1")
	assert.Equal(t, "C", far[5].name)
	_, err = findWorkloads([]string{"D0"})
	assert.ErrorContains(t, err, "D0")
}

func TestScaleHasFewerBlobsOrASmallerOne(t *testing.T) {
	w, _ := findWorkload("D7")
	full := w.bytes()
	w = w.scaled(0.25)
	assert.Equal(t, []set{{1, gib / 4}, {500, 64 * kib}}, w.sets)
	assert.Equal(t, full/4, w.bytes())
	assert.Contains(t, w.title, "0.25 of the size")
	assert.Equal(t, 1, w.scaled(1e-9).sets[1].count, "one at least")
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"-workload", "D1, U3", "-contenders", "floor,transfer@8"},
		io.Discard)
	require.NoError(t, err)
	assert.Len(t, o.workloads, 2)
	assert.Equal(t, []string{"floor", "transfer@8"}, o.contenders)
	for _, args := range [][]string{
		{"-rounds", "-1"}, {"-scale", "0"}, {"-scale", "0.5", "-record"}, {"-workload", "D0"},
		{"-contenders", "nobody"},
		{"-contenders", "transfer@0"}, {"-unknown"},
	} {
		_, err := parse(args, io.Discard)
		assert.Error(t, err, "%v", args)
	}
}

func TestWhatIsHopelessIsNotRunAgain(t *testing.T) {
	held, _ := findWorkload("D6")
	assert.True(t, held.hopeless("curl", 75, 2))
	assert.False(t, held.hopeless("aria2c", 5, 2))
	far, _ := findWorkload("W1")
	assert.True(t, far.hopeless("bodies@8", 6, 3))
	assert.False(t, far.hopeless("oras", 6, 3))
	near, _ := findWorkload("D1")
	assert.False(t, near.hopeless("oras", 3600, 1))
}

func TestEachTargetIsOfAWorkload(t *testing.T) {
	for _, of := range targets() {
		_, ok := findWorkload(of.row)
		assert.True(t, ok, of.row)
	}
	for name := range reasons {
		_, ok := findWorkload(name)
		assert.True(t, ok, name)
	}
}
