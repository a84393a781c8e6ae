package main

import (
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/progress"
)

// finder finds out what of an upload the registry had already: the blobs it was asked about and said
// yes, those that it mounted, and the beginnings of those that an earlier run has sent; and how far the large
// blobs are that are on their way. It reads the library's log at level Debug.
type finder struct {
	meter meter
	large []transfer.Blob   // those that have a line of their own
	names map[string]string // of blobs, by digest

	mu    sync.Mutex       // guards the fields that follow
	sizes map[string]int64 // of the blobs that are not decided yet
	begun map[string]bool  // by an earlier run
	sent  map[string]int64 // how much has left of blobs that are on their way
}

// meter is the part of a progress meter that a finder needs.
type meter interface {
	There(bytes int64)
	Moved() int64
}

// newFinder returns the finder of an upload. The names are those that blobs have for people.
func newFinder(blobs []transfer.Blob, names map[string]string, m meter) *finder {
	f := &finder{
		meter: m, names: names, sizes: make(map[string]int64, len(blobs)), begun: map[string]bool{},
		sent: map[string]int64{},
	}
	for _, b := range blobs {
		f.sizes[b.Digest] = b.Size
		if b.Size >= largeBlob {
			f.large = append(f.large, b)
		}
	}
	return f
}

// moving returns the large blobs that are on their way.
func (f *finder) moving() []progress.Blob {
	f.mu.Lock()
	defer f.mu.Unlock()
	var moving []progress.Blob
	for _, b := range f.large {
		if sent, ok := f.sent[b.Digest]; ok {
			moving = append(moving, progress.Blob{Name: blobName(b, f.names), Done: sent, Total: b.Size})
		}
	}
	return moving
}

// record reads a record.
func (f *finder) record(r slog.Record) {
	attributes := make(map[string]slog.Value, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		attributes[a.Key] = a.Value.Resolve()
		return true
	})
	switch r.Message {
	case "answer":
		if status := attributes["status"]; status.Kind() == slog.KindInt64 {
			f.answered(attributes["method"].String(), attributes["url"].String(), int(status.Int64()))
		}
	case "upload continues":
		if offset := attributes["offset"]; offset.Kind() == slog.KindInt64 {
			f.continued(attributes["digest"].String(), offset.Int64())
		}
	case "blob moves":
		if sent := attributes["sent"]; sent.Kind() == slog.KindInt64 {
			f.moved(attributes["digest"].String(), sent.Int64())
		}
	case "blob in place":
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.sent, attributes["digest"].String())
	}
}

// moved is told how much of a blob has left.
func (f *finder) moved(dg string, sent int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent[dg] = sent
}

// continued is told how much of a blob the registry has. An earlier run has sent it if that is more
// than this run has moved at all; what is told of a blob later is what this one has sent.
func (f *finder) continued(dg string, offset int64) {
	f.mu.Lock()
	known := f.begun[dg]
	f.begun[dg] = true
	f.mu.Unlock()
	if !known && offset > f.meter.Moved() {
		f.meter.There(offset)
	}
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
		f.meter.There(size)
	}
}
