// Package pieces splits a blob into pieces, hands them out in order, and takes the
// tail of a slow piece for an idle worker.
package pieces

import (
	"cmp"
	"slices"
)

// Range is the half-open byte range [Start, End).
type Range struct{ Start, End int64 }

// Len returns how many bytes the range has. It is not positive for an empty one.
func (r Range) Len() int64 { return r.End - r.Start }

// insert puts r into sorted, a list of disjoint ranges in order, and joins it with the
// ranges that it touches. An empty range changes nothing.
func insert(sorted []Range, r Range) []Range {
	if r.Len() <= 0 {
		return sorted
	}
	byEnd := func(s Range, start int64) int { return cmp.Compare(s.End, start) }
	from, _ := slices.BinarySearchFunc(sorted, r.Start, byEnd)
	to := from
	for to < len(sorted) && sorted[to].Start <= r.End {
		r.Start = min(r.Start, sorted[to].Start)
		r.End = max(r.End, sorted[to].End)
		to++
	}
	return slices.Replace(sorted, from, to, r)
}
