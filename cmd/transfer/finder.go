package main

import (
	"net/http"
	"strings"
	"sync"

	"github.com/modeltransfer/transfer"
)

// finder finds out which blobs of an upload the registry had already: those it was asked about and
// said yes, and those that it mounted.
type finder struct {
	there func(bytes int64)

	mu    sync.Mutex       // guards the fields that follow
	sizes map[string]int64 // of the blobs that are not decided yet
}

func newFinder(blobs []transfer.Blob, there func(bytes int64)) *finder {
	f := &finder{there: there, sizes: make(map[string]int64, len(blobs))}
	for _, b := range blobs {
		f.sizes[b.Digest] = b.Size
	}
	return f
}

// answered is told of each answer of the registry. The first that is about a blob decides: a later
// yes is about what was sent.
func (f *finder) answered(method, url string, status int) {
	dg, mounted := "", false
	switch {
	case method == http.MethodHead:
		_, dg, _ = strings.Cut(url, "/blobs/")
	case method == http.MethodPost && strings.Contains(url, "mount=sha"):
		_, dg, _ = strings.Cut(url, "mount=")
		dg, _, _ = strings.Cut(strings.ReplaceAll(dg, "%3A", ":"), "&")
		mounted = true
	default:
		return
	}
	f.mu.Lock()
	size, ok := f.sizes[dg]
	yes := !mounted && status == http.StatusOK || mounted && status == http.StatusCreated
	if ok && (yes || !mounted && status == http.StatusNotFound) {
		delete(f.sizes, dg)
	}
	f.mu.Unlock()
	if ok && yes {
		f.there(size)
	}
}
