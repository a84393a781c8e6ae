package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer/internal/bench/contender"
	"github.com/modeltransfer/transfer/internal/bench/registry"
)

// figure is one of those that are measured.
type figure int

// The figures, in the order of the CSV.
const (
	wall        figure = iota // seconds
	cpu                       // seconds
	memory                    // most bytes at once
	mallocs                   // allocations
	requests                  // that the registry got
	connections               // that it accepted
	body                      // bytes of blobs, both ways
	twice                     // bytes of blobs that were sent more than once
	figures
)

// sample is what one run took.
type sample struct {
	workload    workload
	name        string
	round       int
	of          [figures]float64
	cannot      string // why the contender is not made for the workload
	failure     string // what went wrong
	commit, day string // of the measurement, where it is recorded
}

func newSample(w workload, name string, round int, o contender.Outcome, c registry.Counts) sample {
	s := sample{workload: w, name: name, round: round, cannot: o.Cannot, failure: o.Error}
	s.of = [figures]float64{
		o.Wall.Seconds(), o.CPU.Seconds(), float64(o.RSS), float64(o.Mallocs),
		float64(c.Requests), float64(c.Connections), float64(c.Body), float64(c.Duplicates),
	}
	return s
}

// trouble is why there are no figures, empty when there are.
func (s sample) trouble() string { return cmp.Or(s.cannot, s.failure) }

// check makes a run a failure that says it has moved everything and has not.
func (s *sample) check(a attempt, dir string, uploaded int64) {
	switch {
	case s.trouble() != "":
	case !a.upload:
		if err := complete(dir, a.blobs); err != nil {
			s.failure = "incomplete: " + err.Error()
		}
	case uploaded != int64(len(a.blobs)):
		s.failure = fmt.Sprintf("uploaded %d of %d blobs", uploaded, len(a.blobs))
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

// summary is what a contender took over all rounds.
type summary struct {
	name, workers string // of the contender
	rounds        int
	of            [figures]spread
	trouble       string // why there are no figures
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
	for f := range figures {
		var all []float64
		for _, s := range samples {
			all = append(all, s.of[f])
		}
		r.of[f] = spreadOf(all)
	}
	return r
}

// withBestFloor leaves out all floors but the fastest.
func withBestFloor(rows []summary) []summary {
	best := -1
	for i, r := range rows {
		if r.name != "floor" || r.trouble != "" {
			continue
		}
		if best < 0 || r.of[wall].median < rows[best].of[wall].median {
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
	return r.of[wall].median
}
