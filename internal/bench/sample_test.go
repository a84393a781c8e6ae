package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer/internal/bench/contender"
	"github.com/modeltransfer/transfer/internal/bench/registry"
)

func TestSpread(t *testing.T) {
	assert.Equal(t, spread{}, spreadOf(nil))
	assert.Equal(t, spread{2, 2, 2}, spreadOf([]float64{2}))
	assert.Equal(t, spread{1, 2, 9}, spreadOf([]float64{9, 1, 2}))
	assert.Equal(t, spread{1, 2.5, 9}, spreadOf([]float64{9, 1, 2, 3}))
}

// runs are samples of a contender that took so many seconds.
func runs(name string, seconds ...float64) (all []sample) {
	for i, s := range seconds {
		all = append(all, sample{name: name, round: i + 1, of: [figures]float64{wall: s}})
	}
	return all
}

func TestOnlyTheBestFloorIsShown(t *testing.T) {
	samples := append(runs("floor@4", 1, 5, 5), runs("floor@16", 3, 3, 3)...)
	samples = append(samples, runs("floor@64", 4, 4, 4)...)
	samples = append(samples, runs("transfer", 6, 6, 6)...)
	samples = append(samples, runs("transfer@8", 2, 2, 2)...)
	rows := summarize(samples)
	var labels []string
	for _, r := range rows {
		labels = append(labels, r.label())
	}
	assert.Equal(t, []string{"floor (16)", "transfer", "transfer (8)"}, labels)
	assert.InDelta(t, 3, medianOf(rows, "floor"), 1e-9)
	assert.InDelta(t, 6, medianOf(rows, "transfer"), 1e-9, "not that with fixed workers")
	assert.Zero(t, medianOf(rows, "oras"))
}

func TestOneFailureLeavesNoFigures(t *testing.T) {
	samples := runs("oras", 1, 2)
	samples[1].failure = "status 500"
	rows := summarize(samples)
	assert.Equal(t, "status 500", rows[0].trouble)
	assert.Zero(t, medianOf(rows, "oras"))
}

func TestARunThatMovedTooLittleIsAFailure(t *testing.T) {
	blobs := []contender.Blob{{Digest: "sha256:1", Size: 1}}
	a := attempt{workload: workload{upload: true}, blobs: blobs}
	s := newSample(a.workload, "oras", 1, contender.Outcome{}, registry.Counts{})
	s.check(a, t.TempDir(), 0)
	assert.Equal(t, "uploaded 0 of 1 blobs", s.trouble())

	a.upload = false
	s = newSample(a.workload, "oras", 1, contender.Outcome{}, registry.Counts{})
	s.check(a, t.TempDir(), 0)
	assert.Contains(t, s.trouble(), "incomplete")

	s = newSample(a.workload, "oras", 1, contender.Outcome{Cannot: "cannot upload"}, registry.Counts{})
	s.check(a, t.TempDir(), 0)
	assert.Equal(t, "cannot upload", s.trouble())
}
