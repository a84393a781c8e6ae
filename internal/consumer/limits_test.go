package consumer_test

import (
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// Concurrency is the most requests in flight, those that ask and those that wait for an answer among them.
func TestI19ConcurrencyIsTheMostRequestsInFlight(t *testing.T) {
	cases := registrytest.Named(1, 5, 40)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, concurrency int) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{})
		w.concurrency, w.streams = concurrency, 100
		layers := append(many(100, w.local), w.local(3<<20), w.local(4<<20))
		require.NoError(t, w.push(t.Context(), repository, "latest", layers, manifestOf(t, layers...), nil))
		assert.Equal(t, concurrency, w.meter.most, "push")

		w.blobs, w.meter.most = t.TempDir(), 0
		require.NoError(t, w.pull(t.Context(), repository, layers, nil))
		assert.Equal(t, concurrency, w.meter.most, "pull")
	})
}

// Also where the registry sends each request on to a store.
func TestI19ConcurrencyWithRedirects(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{})
		cdn := &meter{next: w.reg.CDN()}
		store := w.net.Serve("cdn.test", cdn, mode).URL
		w.reg.Configure(func(o *registrytest.Options) { o.Redirect = registrytest.To(store) })
		w.concurrency, w.streams = 5, 100
		layers := append(many(50, w.remote), w.remote(40<<20))
		require.NoError(t, w.pull(t.Context(), repository, layers, nil))
		w.requirePulled(layers...)
		assert.LessOrEqual(t, w.meter.most+cdn.most, 2*5)
		assert.LessOrEqual(t, max(w.meter.most, cdn.most), 5)
	})
}

// streams counts the bodies that a program has in flight.
type streams struct {
	next http.RoundTripper

	mu        sync.Mutex
	now, most int
}

func (s *streams) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody && r.Method != http.MethodPost {
		r = r.Clone(r.Context())
		r.Body = &stream{ReadCloser: r.Body, of: s, left: r.ContentLength}
	}
	resp, err := s.next.RoundTrip(r)
	if err == nil && r.Method == http.MethodGet && resp.StatusCode < 300 {
		resp.Body = &stream{ReadCloser: resp.Body, of: s, left: resp.ContentLength}
	}
	return resp, err
}

func (s *streams) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now += n
	s.most = max(s.most, s.now)
}

// stream is a body, in flight from its first byte to its last, which need not have arrived.
type stream struct {
	io.ReadCloser
	of    *streams
	left  int64
	begun bool
	end   sync.Once
}

func (s *stream) Read(p []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.of.count(1)
	}
	n, err := s.ReadCloser.Read(p)
	if s.left -= int64(n); err != nil || s.left == 0 {
		s.end.Do(func() { s.of.count(-1) })
	}
	return n, err
}

func (s *stream) Close() error {
	if s.begun {
		s.end.Do(func() { s.of.count(-1) })
	}
	return s.ReadCloser.Close()
}

// BodyConcurrency is the most bodies in flight, however many requests ask: for links that one body fills.
func TestI19BodyConcurrencyIsTheMostBodies(t *testing.T) {
	registrytest.Each(t, registrytest.Named(1, 3), func(t *testing.T, mode registrytest.Mode, bodies int) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{})
		count := &streams{next: w.client.Transport}
		w.client.Transport = count
		w.streams, w.concurrency = bodies, 20
		w.reg.Fault("", "/blobs/", "**slow(10M)")
		var layers []layer
		for i := range 30 {
			layers = append(layers, w.local(1<<20+i))
		}
		require.NoError(t, w.push(t.Context(), repository, "latest", layers, manifestOf(t, layers...), nil))
		w.requirePushed(layers...)
		assert.Equal(t, bodies, count.most, "push")

		w.blobs, count.most = t.TempDir(), 0
		require.NoError(t, w.pull(t.Context(), repository, layers, nil))
		w.requirePulled(layers...)
		assert.Equal(t, bodies, count.most, "pull")
	})
}
