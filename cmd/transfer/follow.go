package main

import (
	"cmp"
	"slices"
	"sync"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/progress"
	"github.com/modeltransfer/transfer/model"
	"github.com/opencontainers/go-digest"
)

// largeBlob is the size from which on a blob has a line of its own: smaller ones come and go before they can
// be read.
const largeBlob = 32 << 20 // 32 MiB

// follower follows the blobs of a transfer: how far the large ones are that are on their way, and what of an
// upload the registry had already.
type follower struct {
	there func(bytes int64) // is told what the registry had; nil for a download

	mu       sync.Mutex               // guards the fields that follow
	names    map[string]string        // that blobs have for people, by digest
	begun    map[string]bool          // bytes of these were sent
	onTheWay map[string]progress.Blob // large ones
}

func newFollower() *follower {
	return &follower{begun: map[string]bool{}, onTheWay: map[string]progress.Blob{}}
}

// named tells the follower what the blobs are called.
func (f *follower) named(files []model.File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names = map[string]string{}
	for _, file := range files {
		f.names[file.Digest] = file.Name
	}
}

// trace returns what tells the follower.
func (f *follower) trace() *transfer.Trace {
	return &transfer.Trace{
		Present: func(i transfer.PresentInfo) { f.found(i.Blob.Size) },
		Started: f.started,
		Moving:  f.moved,
		Done: func(i transfer.DoneInfo) {
			if f.ended(i.Blob) { // an earlier run has sent all of it
				f.found(i.Reused)
			}
		},
		Failed: func(i transfer.FailInfo) { f.ended(i.Blob) },
	}
}

// found tells of bytes that were there already.
func (f *follower) found(bytes int64) {
	if f.there != nil {
		f.there(bytes)
	}
}

// started notes that a body begins. What lies before the first is what an earlier run has sent.
func (f *follower) started(i transfer.StartInfo) {
	f.mu.Lock()
	again := f.begun[i.Blob.Digest]
	f.begun[i.Blob.Digest] = true
	f.mu.Unlock()
	if !again {
		f.found(i.Offset)
	}
}

// moved notes how far a blob is.
func (f *follower) moved(i transfer.MoveInfo) {
	if i.Blob.Size < largeBlob {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onTheWay[i.Blob.Digest] = progress.Blob{
		Name: blobName(i.Blob, f.names), Done: i.Completed, Total: i.Blob.Size,
	}
}

// ended notes that a blob is not on its way any more, and tells whether nothing of it was sent.
func (f *follower) ended(b transfer.Blob) (unsent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.onTheWay, b.Digest)
	return !f.begun[b.Digest]
}

// moving returns the large blobs that are on their way.
func (f *follower) moving() []progress.Blob {
	f.mu.Lock()
	defer f.mu.Unlock()
	moving := make([]progress.Blob, 0, len(f.onTheWay))
	for _, b := range f.onTheWay {
		moving = append(moving, b)
	}
	slices.SortFunc(moving, func(a, b progress.Blob) int { return cmp.Compare(a.Name, b.Name) })
	return moving
}

// blobName is the name of a blob for people: the beginning of its digest where it has no other.
func blobName(b transfer.Blob, names map[string]string) string {
	if name := names[b.Digest]; name != "" {
		return printable.Text(name)
	}
	dg := digest.Digest(b.Digest)
	return dg.Algorithm().String() + ":" + dg.Encoded()[:12]
}

// fileName is the name of a file, or of a blob that has none, for people.
func fileName(f model.File) string {
	return blobName(transfer.Blob{Digest: f.Digest}, map[string]string{f.Digest: f.Name})
}
