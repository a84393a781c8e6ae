package main

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/pack"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/progress"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/unpack"
	"github.com/opencontainers/go-digest"
)

const (
	// largeBlob is the size from which on a blob has a line of its own: smaller ones come and go
	// before they can be read.
	largeBlob = 32 << 20 // 32 MiB

	// partialSuffix is what the library adds to the name of a blob that is not whole yet.
	partialSuffix = ".partial"

	// lookEvery is how long what was seen on disk is shown again.
	lookEvery = 500 * time.Millisecond
)

// partials tells how far the large blobs of a download are, as their files on disk say, where the system tells
// how much of a file is written.
func partials(dir string, blobs []transfer.Blob, names map[string]string) func() []progress.Blob {
	var large []transfer.Blob
	for _, b := range blobs {
		if b.Size >= largeBlob && digest.Digest(b.Digest).Validate() == nil {
			large = append(large, b)
		}
	}
	var mu sync.Mutex
	var last time.Time
	var seen []progress.Blob
	return func() []progress.Blob {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(last) >= lookEvery {
			last, seen = now, look(dir, large, names)
		}
		return seen
	}
}

func look(dir string, blobs []transfer.Blob, names map[string]string) []progress.Blob {
	var seen []progress.Blob
	for _, b := range blobs {
		dg := digest.Digest(b.Digest)
		info, err := os.Lstat(filepath.Join(dir, pack.BlobName(dg)+partialSuffix))
		if err != nil {
			continue
		}
		n, known := unpack.Written(info)
		if !known || n == 0 {
			continue
		}
		seen = append(seen, progress.Blob{Name: blobName(b, names), Done: min(n, b.Size), Total: b.Size})
	}
	return seen
}

// blobName is the name of a blob for people: the beginning of its digest where it has no other.
func blobName(b transfer.Blob, names map[string]string) string {
	if name := names[b.Digest]; name != "" {
		return printable.Text(name)
	}
	dg := digest.Digest(b.Digest)
	return dg.Algorithm().String() + ":" + dg.Encoded()[:12]
}
