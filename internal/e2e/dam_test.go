package e2e

import (
	"io"
	"net/http"
	"sync"
	"testing"
)

// dam is a middleware that lets a number of bytes of blobs through, in both directions
// together, and holds up what follows until it is opened.
type dam struct {
	next http.Handler

	mu     sync.Mutex // guards the fields that follow
	left   int64
	opened chan struct{}
	dry    func() // told once when nothing more gets through
}

// newDam is open.
func newDam(next http.Handler) *dam {
	d := &dam{next: next, opened: make(chan struct{})}
	close(d.opened)
	return d
}

// close lets n more bytes through and then calls dry. It is opened when the test ends, at
// the latest.
func (d *dam) close(t testing.TB, n int64, dry func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.opened, d.dry = n, make(chan struct{}), sync.OnceFunc(dry)
	t.Cleanup(d.open)
}

func (d *dam) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.opened:
	default:
		close(d.opened)
	}
}

// flow waits until n bytes may pass.
func (d *dam) flow(n int) {
	d.mu.Lock()
	d.left -= int64(n)
	blocked, opened, dry := d.left < 0, d.opened, d.dry
	d.mu.Unlock()
	if blocked && dry != nil {
		dry()
		<-opened
	}
}

func (d *dam) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch kindOf(r.URL.Path) {
	case kindBlob:
		w = &dammedWriter{ResponseWriter: w, dam: d}
	case kindUpload:
		r = withBody(r, &dammedBody{ReadCloser: r.Body, dam: d})
	}
	d.next.ServeHTTP(w, r)
}

type dammedWriter struct {
	http.ResponseWriter
	dam *dam
}

func (w *dammedWriter) Write(p []byte) (int, error) {
	w.dam.flow(len(p))
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *dammedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type dammedBody struct {
	io.ReadCloser
	dam *dam
}

func (b *dammedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.dam.flow(n)
	return n, err
}
