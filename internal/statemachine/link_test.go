package statemachine

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// link is the way to all servers, which their bodies share in each direction.
type link struct {
	speed int    // bytes a second; 0: no limit
	taken func() // told of each part of a body that has come to a server

	mu   sync.Mutex   // guards the field that follows
	free [2]time.Time // when all that is on its way down, or up, has passed
}

const (
	down = iota
	up
)

// over returns a handler at the other end of the link.
func (l *link) over(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		r = r.WithContext(ctx) // net/http looks at the body of its own request
		r.Body = &linkedBody{r.Body, l, ctx}
		h.ServeHTTP(&linkedWriter{w, l, ctx}, r)
	})
}

// pass waits until so many bytes have passed.
func (l *link) pass(ctx context.Context, way, bytes int) {
	if l.speed == 0 {
		return
	}
	l.mu.Lock()
	if now := time.Now(); l.free[way].Before(now) {
		l.free[way] = now
	}
	l.free[way] = l.free[way].Add(time.Duration(bytes) * time.Second / time.Duration(l.speed))
	timer := time.NewTimer(time.Until(l.free[way]))
	l.mu.Unlock()
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// portion is how much passes at once: so little that many bodies take turns within a second.
func (l *link) portion() int {
	if l.speed == 0 {
		return 1 << 20
	}
	return min(max(l.speed/64, 2<<10), 16<<10)
}

// linkedWriter sends an answer over a link.
type linkedWriter struct {
	http.ResponseWriter
	link *link
	ctx  context.Context
}

var _ http.ResponseWriter = (*linkedWriter)(nil)

func (w *linkedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *linkedWriter) Write(p []byte) (n int, err error) {
	for err == nil && n < len(p) {
		part := p[n:min(n+w.link.portion(), len(p))]
		w.link.pass(w.ctx, down, len(part))
		var m int
		m, err = w.ResponseWriter.Write(part)
		n += m
	}
	return n, err
}

// linkedBody is the body of a request that comes over a link.
type linkedBody struct {
	io.ReadCloser
	link *link
	ctx  context.Context
}

func (b *linkedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.link.portion())])
	if n > 0 {
		b.link.pass(b.ctx, up, n)
		b.link.taken()
	}
	return n, err
}

// pulse measures the longest time in which nothing moves.
type pulse struct {
	mu      sync.Mutex // guards the fields that follow
	last    time.Time
	longest time.Duration
}

// begin forgets what was before.
func (p *pulse) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.longest = time.Now(), 0
}

// beat notes that something has moved.
func (p *pulse) beat() {
	p.look()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

// look takes the time until now into account.
func (p *pulse) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.longest = max(p.longest, time.Since(p.last))
}
