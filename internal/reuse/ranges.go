package reuse

import (
	"cmp"
	"slices"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// Lists of ranges are in order and disjoint.

// union makes a list of ranges of any kind.
func union(ranges []pieces.Range) (all []pieces.Range) {
	slices.SortFunc(ranges, func(a, b pieces.Range) int { return cmp.Compare(a.Start, b.Start) })
	for _, r := range ranges {
		if last := len(all) - 1; last >= 0 && r.Start <= all[last].End {
			all[last].End = max(all[last].End, r.End)
		} else if r.Len() > 0 {
			all = append(all, r)
		}
	}
	return all
}

// join returns a list in which ranges that are nearer to each other than gap are one, in their order as long
// as what lies between is at most budget bytes in all.
func join(ranges []pieces.Range, gap, budget int64) (all []pieces.Range) {
	for _, r := range ranges {
		last := len(all) - 1
		if last >= 0 && r.Start-all[last].End < min(gap, budget+1) {
			budget -= r.Start - all[last].End
			all[last].End = r.End
		} else {
			all = append(all, r)
		}
	}
	return all
}

// intersect returns what two lists have in common.
func intersect(a, b []pieces.Range) (both []pieces.Range) {
	for len(a) > 0 && len(b) > 0 {
		r := pieces.Range{Start: max(a[0].Start, b[0].Start), End: min(a[0].End, b[0].End)}
		if r.Len() > 0 {
			both = append(both, r)
		}
		if a[0].End < b[0].End {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return both
}

// subtract returns what is in a and not in b.
func subtract(a, b []pieces.Range) (rest []pieces.Range) {
	for _, r := range a {
		for len(b) > 0 && b[0].End <= r.Start {
			b = b[1:]
		}
		for i := 0; i < len(b) && b[i].Start < r.End; i++ {
			if r.Start < b[i].Start {
				rest = append(rest, pieces.Range{Start: r.Start, End: b[i].Start})
			}
			r.Start = b[i].End
		}
		if r.Len() > 0 {
			rest = append(rest, r)
		}
	}
	return rest
}
