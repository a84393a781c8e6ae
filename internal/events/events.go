// Package events notes what happens to the blobs of a call, and tells it as it happens.
//
// Package transfer makes a [Blob] of each blob of a call that has a Trace. Whoever works on the blob reports
// to it. Without a Trace all are nil: a nil Blob notes nothing and costs nothing.
package events

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"
)

// every is how many bytes of a blob move between two calls of [Listener.Moving].
const every = 1 << 20 // 1 MiB

// Place is where a blob was found that need not move.
type Place int

// The places.
const (
	nowhere    Place = iota // not found yet
	OnDisk                  // in the directory of a download
	AtRegistry              // in the repository of an upload
	Mounted                 // in another repository of that registry
)

// Listener is told what happens to blobs, by several goroutines at once. The index is that of [NewBlob].
type Listener interface {
	Present(index int, where Place)
	Waiting(index int)
	Started(index int, host string, offset, size int64)
	Moving(index int, completed int64)
	Reused(index int, path string, n int64)
	Retried(index int, host string, attempt int, wait time.Duration, err error)
	Done(index int, d Done)
	Failed(index int, err error)
}

// Done is how a blob got to where it is now.
type Done struct {
	Host   string        // the last that was asked for bytes or got some; empty where none moved
	Moved  int64         // bytes, those that moved again too
	Reused int64         // bytes that need not move
	Took   time.Duration // from when it was begun
}

// Blob is one blob of a call. It is safe for concurrent use.
type Blob struct {
	listener Listener
	index    int
	size     int64
	upload   bool

	moved     atomic.Int64 // over the network
	completed atomic.Int64 // of the blob's bytes

	mu sync.Mutex // guards the story
	story
}

// story is what was noted of a blob, for what is told of it in the end.
type story struct {
	begun   time.Time // zero before anybody has worked on it
	host    string
	started bool  // a host was asked for bytes, or got some
	waits   bool  // Waiting was told
	lowest  int64 // of the offsets of all bodies
	there   Place // where it was found
	ended   bool  // Present or Done was told
	err     error // what it failed with
}

// NewBlob returns a blob of which the listener is told.
func NewBlob(l Listener, index int, size int64, upload bool) *Blob {
	return &Blob{listener: l, index: index, size: size, upload: upload, story: story{lowest: size}}
}

// Begin notes that somebody works on the blob from now on, or again: then nothing of it is in place.
func (b *Blob) Begin() {
	if b != nil {
		b.completed.Store(0)
		b.note(func() { b.ended = false })
	}
}

// note changes the story, and notes that work on the blob has begun.
func (b *Blob) note(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.begun.IsZero() {
		b.begun = time.Now()
	}
	change()
}

// Wait notes that another call or process has claimed the blob.
func (b *Blob) Wait() {
	if b == nil {
		return
	}
	var told bool
	b.note(func() { told, b.waits = b.waits, true })
	if !told {
		b.listener.Waiting(b.index)
	}
}

// Start notes that a host is asked for size bytes of the blob from an offset on, or gets them.
func (b *Blob) Start(host string, offset, size int64) {
	if b == nil {
		return
	}
	b.note(func() { b.host, b.started, b.lowest = host, true, min(b.lowest, offset) })
	b.listener.Started(b.index, host, offset, size)
}

// From notes which host has answered in the end, where the first may have sent us on.
func (b *Blob) From(host string) {
	if b != nil {
		b.note(func() { b.host = host })
	}
}

// Move notes that n bytes have moved.
func (b *Blob) Move(n int) {
	if b != nil {
		b.moved.Add(int64(n))
	}
}

// Complete notes that n more bytes of the blob are in place, or that so many less are where n is negative.
func (b *Blob) Complete(n int64) {
	if b == nil || n == 0 {
		return
	}
	now := b.completed.Add(n)
	if b.size >= every && (n < 0 || now/every != (now-n)/every) {
		b.listener.Moving(b.index, now)
	}
}

// Reuse tells that n bytes of the blob were copied from a file.
func (b *Blob) Reuse(path string, n int64) {
	if b != nil {
		b.listener.Reused(b.index, path, n)
	}
}

// Retry notes that an attempt has failed, and that the next follows after a wait.
func (b *Blob) Retry(host string, attempt int, wait time.Duration, err error) {
	if b != nil {
		b.listener.Retried(b.index, host, attempt, wait, err)
	}
}

// Find notes that the blob is there. Succeed tells that, unless bytes of it are asked for or sent.
func (b *Blob) Find(where Place) {
	if b != nil {
		b.note(func() { b.there = where })
	}
}

// Succeed tells that the blob is where it is to be.
func (b *Blob) Succeed() {
	if b == nil {
		return
	}
	var present bool
	var d Done
	b.note(func() {
		b.ended, b.err = true, nil
		present = b.there != nowhere && !b.started
		moved := b.moved.Load()
		d = Done{Moved: moved, Reused: max(0, b.size-moved), Took: time.Since(b.begun)}
		if moved > 0 {
			d.Host = b.host
		}
		if b.upload { // what a session had is not sent, whatever is sent twice
			d.Reused = max(d.Reused, b.lowest)
		}
	})
	if present {
		b.listener.Present(b.index, b.there)
	} else {
		b.listener.Done(b.index, d)
	}
}

// Fail notes why the blob has failed: the first error counts. [Blob.End] tells it.
func (b *Blob) Fail(err error) {
	if b != nil {
		b.note(func() { b.ended, b.err = false, cmp.Or(b.err, err) })
	}
}

// End tells that a blob has failed that was begun and is not in place: because of its own error, or that of
// the call. Nobody works on it any more.
func (b *Blob) End(call error) {
	if b == nil || b.begun.IsZero() || b.ended {
		return
	}
	b.listener.Failed(b.index, cmp.Or(b.err, call))
}
