package blobstore

import (
	"cmp"
	"slices"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// extent is a range of a partial that was written and is complete.
type extent struct {
	pieces.Range
	crc uint32 // CRC-32C of the bytes as they came

	// adopted tells that an earlier run left the bytes without a CRC, or that they came from another file.
	adopted bool

	// written tells that this claim wrote the bytes. They are compared with their CRC only when the digest is
	// wrong; what an earlier run left is compared as it is hashed, because a crash may have damaged it.
	written bool
}

// inherited tells that an earlier run recorded the bytes with their CRC.
func (e extent) inherited() bool { return !e.written && !e.adopted }

func (e extent) overlaps(start, end int64) bool { return e.Start < end && start < e.End }

// extents are disjoint and in order.
type extents []extent

// search returns the index of the first extent that ends behind the offset.
func (s extents) search(off int64) int {
	byEnd := func(e extent, end int64) int { return cmp.Compare(e.End, end) }
	i, _ := slices.BinarySearchFunc(s, off+1, byEnd)
	return i
}

// covers tells whether any byte of the range is in an extent.
func (s extents) covers(start, end int64) bool {
	i := s.search(start)
	return i < len(s) && s[i].overlaps(start, end)
}

// insert adds an extent that overlaps no other.
func (s extents) insert(e extent) extents { return slices.Insert(s, s.search(e.Start), e) }

// without returns s without the extent that has the offset, and where that began.
func (s extents) without(off int64) (rest extents, start int64) {
	i := s.search(off)
	if i == len(s) || s[i].Start > off {
		return s, off
	}
	start = s[i].Start
	return slices.Delete(s, i, i+1), start
}

// missing returns what of the first size bytes is in no extent.
func (s extents) missing(size int64) []pieces.Range {
	var gaps []pieces.Range
	at := int64(0)
	for _, e := range s {
		if at < e.Start {
			gaps = append(gaps, pieces.Range{Start: at, End: e.Start})
		}
		at = e.End
	}
	if at < size {
		gaps = append(gaps, pieces.Range{Start: at, End: size})
	}
	return gaps
}

// common returns what of some ranges, which are in order, is in an extent.
func (s extents) common(ranges []pieces.Range) (both []pieces.Range) {
	for _, e := range s {
		for len(ranges) > 0 && ranges[0].End <= e.Start {
			ranges = ranges[1:]
		}
		for i := 0; i < len(ranges) && e.overlaps(ranges[i].Start, ranges[i].End); i++ {
			r := pieces.Range{Start: max(e.Start, ranges[i].Start), End: min(e.End, ranges[i].End)}
			if n := len(both); n > 0 && both[n-1].End == r.Start {
				both[n-1].End = r.End
			} else {
				both = append(both, r)
			}
		}
	}
	return both
}

// within returns the extents that a file of that size can hold.
func (s extents) within(size int64) extents {
	for len(s) > 0 && s[len(s)-1].End > size {
		s = s[:len(s)-1]
	}
	return s
}

func (s extents) bytes() (n int64) {
	for _, e := range s {
		n += e.Len()
	}
	return n
}

// disjoint orders extents and, where two overlap, keeps the one that comes later in the
// argument: it was written later.
func disjoint(recorded []extent) extents {
	order := make([]int, len(recorded))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(recorded[a].Start, recorded[b].Start), a-b)
	})
	kept := order[:0]
	for _, i := range order {
		last := len(kept) - 1
		switch {
		case last < 0 || recorded[kept[last]].End <= recorded[i].Start:
			kept = append(kept, i)
		case i > kept[last]:
			kept[last] = i
		}
	}
	s := make(extents, len(kept))
	for at, i := range kept {
		s[at] = recorded[i]
	}
	return s
}
