package transfer_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// slowLink is a link that all bodies share, whatever server they come from.
type slowLink struct {
	speed int // bytes a second

	mu   sync.Mutex
	free time.Time // when all that was written so far has passed; guarded by mu
}

// over returns a handler whose answers pass the link.
func (l *slowLink) over(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&slowWriter{w, l, r.Context()}, r)
	})
}

// pass waits until so many bytes have passed.
func (l *slowLink) pass(ctx context.Context, bytes int) {
	l.mu.Lock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(bytes) * time.Second / time.Duration(l.speed))
	wait := time.Until(l.free)
	l.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

type slowWriter struct {
	http.ResponseWriter
	link *slowLink
	ctx  context.Context
}

func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *slowWriter) Write(p []byte) (n int, err error) {
	const portion = 16 << 10
	for err == nil && n < len(p) {
		part := p[n:min(n+portion, len(p))]
		w.link.pass(w.ctx, len(part))
		var m int
		m, err = w.ResponseWriter.Write(part)
		n += m
	}
	return n, err
}

// A slow link does not begin with 64 bodies: calls that are cut short again and again still come to an end soon.
func TestS25FewBodiesOnASlowLink(t *testing.T) {
	for name, c := range map[string]struct{ count, size, speed int }{
		"40 x 256 KiB at 1 MiB/s": {40, 256 << 10, mebibyte},
		"16 x 1 MiB at 2 MiB/s":   {16, mebibyte, 2 * mebibyte},
		"4 x 8 MiB at 2 MiB/s":    {4, 8 * mebibyte, 2 * mebibyte},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				link := &slowLink{speed: c.speed}
				opts := w.downloadOptions()
				for i := range c.count {
					opts.Blobs = append(opts.Blobs, w.remote(c.size+i))
				}
				opts.BaseURL = w.net.Serve("slow.test", link.over(w.reg), registrytest.H1).URL
				opts.Progress = nil
				const deadline = 3 * time.Second
				calls, early := 0, 0
				begun := time.Now()
				w.observe(func() {
					if time.Since(begun) < 300*time.Millisecond {
						early++
					}
				})
				for err := errors.New("not begun"); err != nil; calls++ {
					require.Less(t, calls, 50)
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					err = transfer.Download(ctx, opts)
					cancel()
				}
				w.reg.Wait()
				total := c.count * c.size
				needed := (total/c.speed + 2) / 3
				assert.LessOrEqual(t, calls, needed+needed/2+1)
				assert.LessOrEqual(t, w.reg.BytesSent(), int64(total)*13/10)
				assert.LessOrEqual(t, early, 16, "requests with which the first call begins")
			})
		})
	}
}
