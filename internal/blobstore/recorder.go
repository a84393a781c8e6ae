package blobstore

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// A writer records what it has written as soon as that is a segment, so that a crash loses no more of it. A
// segment of a large blob has minSegment bytes, or more where the blob would have more than maxRecords. That
// of a small one is larger, so that most need no journal.
const (
	minSegment   = 512 << 10 // 512 KiB
	smallSegment = 1 << 20   // 1 MiB
	maxRecords   = 1 << 15
)

// errTaken refuses to write bytes a second time: they may have been hashed.
var errTaken = errors.New("range was written already or is being written")

// recorder knows which bytes of a partial are complete and which are being written, and keeps the journal of
// the complete ones. It never touches the data.
type recorder struct {
	size    int64    // of the blob
	journal *journal // nil when the partial is not worth keeping or cannot be kept; set while it is claimed
	state   writeState

	// mu guards the fields that follow. It is never held during I/O.
	mu       sync.Mutex
	recorded extents
	reserved reservations // those that are active
	damaged  bool         // a recorded extent was found damaged on disk, and is missing since
}

// reservation is what one writer has written, or is writing, and has not recorded. Only that writer changes
// it, through the recorder and under its mu, so that the writer may also read it without.
type reservation struct {
	start, end int64
	active     bool // among recorder.reserved
}

type reservations []*reservation

func (v *reservation) len() int64 { return v.end - v.start }

func (r *recorder) large() bool { return r.size >= LargeThreshold }

// segmentOf is how many bytes of a blob of that size a writer writes before it records them.
func segmentOf(size int64) int64 {
	if size < LargeThreshold {
		return smallSegment
	}
	return max(minSegment, size/maxRecords)
}

// missing returns what is not recorded, in order.
func (r *recorder) missing() []pieces.Range {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.recorded.missing(r.size)
}

// all returns what is recorded, in order.
func (r *recorder) all() extents {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.recorded)
}

// at returns the extent that has the offset, and false when the byte there is missing.
func (r *recorder) at(off int64) (extent, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.recorded.search(off)
	if i == len(r.recorded) || r.recorded[i].Start > off {
		return extent{}, false
	}
	return r.recorded[i], true
}

// reserve extends a reservation by n bytes, and returns where they begin. They are refused when they are
// beyond the blob, recorded, or another writer's.
func (r *recorder) reserve(v *reservation, n int64) (off int64, err error) {
	if err := r.state.usable(); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	off = v.end
	switch {
	case off < 0 || n > r.size-off:
		return 0, fmt.Errorf("%s: %w: write of %d bytes at %d of %d", r.state.path, errSize, n, off, r.size)
	case r.recorded.covers(off, off+n) || r.reserved.others(off, off+n, v):
		return 0, r.state.refuse(errTaken)
	}
	v.end += n
	if !v.active {
		v.active = true
		r.reserved = append(r.reserved, v)
	}
	return off, nil
}

// others tells whether another than v has bytes of the range.
func (s reservations) others(start, end int64, v *reservation) bool {
	return slices.ContainsFunc(s, func(o *reservation) bool {
		return o != v && o.start < end && start < o.end
	})
}

// shorten gives back what was reserved from an offset on, because it was not written.
func (r *recorder) shorten(v *reservation, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v.end = end
}

// add records all that a reservation has, which was written: first in the journal. A failure ends all
// writing. The extent is empty where there is nothing to record.
func (r *recorder) add(v *reservation, crc uint32) (extent, error) {
	return r.put(v, extent{crc: crc, written: true})
}

// adopt records all that a reservation has, which was copied from another file.
func (r *recorder) adopt(v *reservation) error {
	_, err := r.put(v, extent{adopted: true})
	return err
}

func (r *recorder) put(v *reservation, e extent) (extent, error) {
	e.Range = pieces.Range{Start: v.start, End: v.end}
	if e.Len() == 0 {
		return e, nil
	}
	if err := r.state.recordable(); err != nil {
		return extent{}, err
	}
	if err := r.journal.add(e); err != nil {
		r.state.failWrite(err)
		return extent{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recorded = r.recorded.insert(e)
	v.start = v.end
	return e, nil
}

// release gives a reservation up, and tells whether it ever was extended.
func (r *recorder) release(v *reservation) (active bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	active = v.active
	v.active = false
	r.reserved = slices.DeleteFunc(r.reserved, func(o *reservation) bool { return o == v })
	return active
}

// drop makes the extent missing that has the offset, because it is damaged, and returns where it began.
func (r *recorder) drop(off int64) (start int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.damaged = true
	r.recorded, start = r.recorded.without(off)
	return start
}

// hasDamage tells whether an extent was dropped since the last call of damage.
func (r *recorder) hasDamage() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.damaged
}

// damage returns what is missing because extents were dropped.
func (r *recorder) damage() []pieces.Range {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.damaged = false
	return r.recorded.missing(r.size)
}

// forget makes everything missing: only what was adopted without a CRC, where there is such, because it is
// the likelier cause of a wrong digest. A failure ends all writing.
func (r *recorder) forget() (adopted bool, err error) {
	r.mu.Lock()
	trusted := slices.DeleteFunc(slices.Clone(r.recorded), func(e extent) bool { return e.adopted })
	adopted = len(trusted) < len(r.recorded)
	if !adopted {
		trusted = nil
	}
	r.recorded = trusted
	r.mu.Unlock()
	err = r.journal.reset()
	if err == nil {
		err = r.journal.addAll(trusted)
	}
	if err != nil {
		r.state.fail(err)
	}
	return adopted, err
}

// resumable tells whether the next claim could go on from what is recorded.
func (r *recorder) resumable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.journal != nil && len(r.recorded) > 0
}
