package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/internal/bench/contender"
	"github.com/modeltransfer/transfer/internal/bench/registry"
)

// sample is what one run took.
type sample struct {
	workload    workload
	name        string
	round       int
	wall        time.Duration
	cpu         time.Duration
	memory      int64
	mallocs     uint64
	counts      registry.Counts
	cannot      string // why the contender is not made for the workload
	failure     string // what went wrong
	commit, day string // of the measurement, where it is recorded
}

func newSample(w workload, name string, round int, o contender.Outcome, c registry.Counts) sample {
	return sample{
		workload: w, name: name, round: round, wall: o.Wall, cpu: o.User + o.System, memory: o.RSS,
		mallocs: o.Mallocs, counts: c, cannot: o.Cannot, failure: o.Error,
	}
}

// trouble is why there are no figures, empty when there are.
func (s sample) trouble() string { return cmp.Or(s.cannot, s.failure) }

// check makes a run a failure that says it has moved everything and has not.
func (s *sample) check(a attempt, dir string) {
	if s.trouble() != "" {
		return
	}
	if a.upload {
		if got := s.counts.Uploaded; got != int64(len(a.blobs)) {
			s.failure = fmt.Sprintf("uploaded %d of %d blobs", got, len(a.blobs))
		}
		return
	}
	if err := complete(dir, a.blobs); err != nil {
		s.failure = "incomplete: " + err.Error()
	}
}

// spread is a number that was measured several times.
type spread struct{ min, median, max float64 }

func spreadOf(values []float64) (s spread) {
	if len(values) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(values))
	s.min, s.max = sorted[0], sorted[len(sorted)-1]
	middle := len(sorted) / 2
	s.median = sorted[middle]
	if len(sorted)%2 == 0 {
		s.median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return s
}

// summary is what a contender took over all rounds: medians, but for the wall.
type summary struct {
	name, workers string // of the contender
	rounds        int
	wall          spread // seconds
	cpu           float64
	memory        float64 // bytes
	mallocs       float64
	requests      float64
	connections   float64
	body          float64 // bytes
	twice         float64 // bytes
	trouble       string  // why there are no figures
}

// summarize makes a row of each contender, in the order of their first runs. Of the floors, only the
// fastest is left.
func summarize(samples []sample) (rows []summary) {
	var order []string
	of := make(map[string][]sample)
	for _, s := range samples {
		if of[s.name] == nil {
			order = append(order, s.name)
		}
		of[s.name] = append(of[s.name], s)
	}
	for _, name := range order {
		rows = append(rows, summaryOf(name, of[name]))
	}
	return withBestFloor(rows)
}

func summaryOf(name string, samples []sample) summary {
	r := summary{rounds: len(samples)}
	r.name, r.workers, _ = strings.Cut(name, "@")
	for _, s := range samples {
		if r.trouble = s.trouble(); r.trouble != "" {
			return r
		}
	}
	over := func(value func(sample) float64) spread {
		var all []float64
		for _, s := range samples {
			all = append(all, value(s))
		}
		return spreadOf(all)
	}
	r.wall = over(func(s sample) float64 { return s.wall.Seconds() })
	r.cpu = over(func(s sample) float64 { return s.cpu.Seconds() }).median
	r.memory = over(func(s sample) float64 { return float64(s.memory) }).median
	r.mallocs = over(func(s sample) float64 { return float64(s.mallocs) }).median
	r.requests = over(func(s sample) float64 { return float64(s.counts.Requests) }).median
	r.connections = over(func(s sample) float64 { return float64(s.counts.Connections) }).median
	r.body = over(func(s sample) float64 { return float64(s.counts.Body) }).median
	r.twice = over(func(s sample) float64 { return float64(s.counts.Duplicates) }).median
	return r
}

// withBestFloor leaves out all floors but the fastest.
func withBestFloor(rows []summary) []summary {
	best := -1
	for i, r := range rows {
		if r.name == "floor" && r.trouble == "" && (best < 0 || r.wall.median < rows[best].wall.median) {
			best = i
		}
	}
	var left []summary
	for i, r := range rows {
		if r.name != "floor" || i == best || best < 0 {
			left = append(left, r)
		}
	}
	return left
}

// rowOf is the row of the contender that moves as many blobs at once as it likes, or of the floor.
func rowOf(rows []summary, name string) (summary, bool) {
	for _, r := range rows {
		if r.name == name && r.trouble == "" && (r.workers == "" || name == "floor") {
			return r, true
		}
	}
	return summary{}, false
}

// medianOf is its wall time; 0 when there is none.
func medianOf(rows []summary, name string) float64 {
	r, _ := rowOf(rows, name)
	return r.wall.median
}
