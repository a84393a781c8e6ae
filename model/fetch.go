package model

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/registry"
)

// tally counts what a transfer moves, and passes on what it is told.
type tally struct {
	base  int64 // bytes of the model that are no part of the transfer, because they are there
	tell  func(completed, total int64)
	begin time.Time

	mu    sync.Mutex // guards the fields that follow
	began bool
	there int64 // of the transfer's
	done  int64
	total int64
	sent  map[string]bool // of these, bytes were sent
	came  int64           // bytes that a download has moved for blobs that are there now

	reused map[string]int64 // bytes of blobs that came from other files, by digest
}

func newTally(base int64, tell func(completed, total int64)) *tally {
	return &tally{
		base: base, tell: tell, begin: time.Now(), sent: map[string]bool{}, reused: map[string]int64{},
	}
}

// progress is the callback of the transfer.
func (t *tally) progress(completed, total int64) {
	t.mu.Lock()
	if !t.began {
		t.began, t.there = true, t.there+completed
	}
	t.done, t.total = completed, total
	t.mu.Unlock()
	if t.tell != nil {
		t.tell(completed+t.base, total+t.base)
	}
}

// found counts bytes that turned out to be at the registry.
func (t *tally) found(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.there += bytes
}

// first tells whether something happens to a blob for the first time.
func (t *tally) first(b transfer.Blob) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.sent[b.Digest]
	t.sent[b.Digest] = true
	return !known
}

// uploaded has an upload tell what it finds at the registry, beside what somebody else is told.
func (t *tally) uploaded(other *transfer.Trace) *transfer.Trace {
	all := *cmp.Or(other, &transfer.Trace{})
	var claimed sync.Map // digests of blobs that the registry says it has
	all.Present = both(func(i transfer.PresentInfo) {
		claimed.Store(i.Blob.Digest, true)
		t.found(i.Blob.Size)
	}, all.Present)
	all.Started = both(func(i transfer.StartInfo) {
		if _, inVain := claimed.LoadAndDelete(i.Blob.Digest); inVain {
			t.found(-i.Blob.Size)
		}
		if t.first(i.Blob) { // what lies before the first byte is what an earlier call has sent
			t.found(i.Offset)
		}
	}, all.Started)
	all.Done = both(func(i transfer.DoneInfo) {
		if t.first(i.Blob) { // an earlier call has sent all of it
			t.found(i.Reused)
		}
	}, all.Done)
	return &all
}

// received has a download tell what it moves itself, because another call may have brought a blob that both
// have waited for, and what it has of other files.
func (t *tally) received(other *transfer.Trace) *transfer.Trace {
	all := *cmp.Or(other, &transfer.Trace{})
	count := func(b transfer.Blob, moved int64, reused func(had int64) int64) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.came += moved
		t.reused[b.Digest] = reused(t.reused[b.Digest])
	}
	all.Reused = both(func(i transfer.ReuseInfo) {
		count(i.Blob, 0, func(had int64) int64 { return had + i.Bytes })
	}, all.Reused)
	all.Retried = both(func(i transfer.RetryInfo) {
		if errors.Is(i.Err, transfer.ErrDigestMismatch) { // it was thrown away
			count(i.Blob, 0, func(int64) int64 { return 0 })
		}
	}, all.Retried)
	all.Done = both(func(i transfer.DoneInfo) {
		count(i.Blob, i.Moved, func(had int64) int64 { return min(had, i.Reused) })
	}, all.Done)
	return &all
}

// shared counts what others have brought during a download that has come to its end.
func (t *tally) shared() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.there += max(t.done-t.there-t.came-t.fromFiles(), 0)
}

// fromFiles is how many bytes came from other files. The lock is held.
func (t *tally) fromFiles() (n int64) {
	for _, bytes := range t.reused {
		n += bytes
	}
	return n
}

// both calls two functions, of which the second may be nil.
func both[T any](first, second func(T)) func(T) {
	if second == nil {
		return first
	}
	return func(info T) {
		first(info)
		second(info)
	}
}

// count puts what has moved into a result. Of a transfer that was refused that is what was planned.
func (t *tally) count(r *Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.began {
		return
	}
	r.Bytes, r.There = t.total+t.base, t.there+t.base
	came := max(t.done-t.there, 0)
	r.Reused, r.Took = min(t.fromFiles(), came), time.Since(t.begin)
	r.Moved = came - r.Reused
}

// plan fills in what a transfer is to move, in the order of the blobs.
func (r *Result) plan(blobs []transfer.Blob, names map[string]string, there func(transfer.Blob) bool) {
	r.Files, r.Missing, r.Bytes, r.There = nil, nil, 0, 0
	for _, b := range blobs {
		f := File{Name: names[b.Digest], Digest: b.Digest, Size: b.Size}
		r.Files = append(r.Files, f)
		if r.Bytes += b.Size; there(b) {
			r.There += b.Size
		} else {
			r.Missing = append(r.Missing, f)
		}
	}
}

// moreMoved counts bytes that have moved though they were said to be there.
func (r *Result) moreMoved(n int64) {
	r.Moved += n
	r.There = max(r.There-n, 0)
}

// namesOf returns the names that manifests give their blobs, by digest.
func namesOf(manifests []registry.Manifest) map[string]string {
	names := map[string]string{}
	for _, m := range manifests {
		content, err := m.Content()
		if err != nil {
			continue // it is refused elsewhere
		}
		for _, l := range content.Layers {
			names[l.Digest] = pack.TitleOf(l)
		}
	}
	return names
}

// blobsOf lists the blobs of manifests, each once.
func blobsOf(manifests []registry.Manifest) ([]transfer.Blob, error) {
	var blobs []transfer.Blob
	for _, m := range manifests {
		if m.IsIndex() {
			continue
		}
		of, err := m.Blobs()
		if err != nil {
			return nil, named(m.Digest, err)
		}
		blobs = append(blobs, of...)
	}
	return pack.Distinct(blobs), nil
}

// treeOf returns a manifest of a repository with all that it lists.
func treeOf(
	ctx context.Context, repo *registry.Repository, m registry.Manifest, most int,
) (*pack.Tree, error) {
	t := pack.NewTree(most, func(dg string) (registry.Manifest, error) {
		if dg == m.Digest {
			return m, nil
		}
		return repo.Manifest(ctx, dg)
	})
	return t, t.Add(m.Digest)
}
