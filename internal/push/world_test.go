package push_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/push"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sessions"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

const repository = "library/model"

// world is a registry in memory, and a directory with blobs for it.
type world struct {
	t       *testing.T
	mode    registrytest.Mode
	net     *registrytest.Network
	reg     *registrytest.Registry
	server  *registrytest.Server
	dir     string
	round   func(http.RoundTripper) http.RoundTripper // wraps the transport, where not nil
	timeout time.Duration                             // for the retry budget, 5 min where zero
	bodies  int                                       // how many may move at once, where not zero
	first   digest.Digest                             // is sent before the others
	moved   atomic.Int64

	overloads atomic.Int32 // attempts that failed as at a server with too many requests

	getToken exchange.GetToken // nil: a 401 is final
}

func newWorld(t *testing.T, mode registrytest.Mode, opts registrytest.Options) *world {
	t.Helper()
	cache := t.TempDir()
	for _, place := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(place, cache)
	}
	opts.Latency = cmp.Or(opts.Latency, time.Millisecond)
	w := &world{t: t, mode: mode, dir: t.TempDir()}
	w.net, w.reg = registrytest.NewNetwork(t), registrytest.New(opts)
	w.server = w.net.Serve("registry.test", w.reg, mode)
	return w
}

// serve lets a handler answer in place of the registry.
func (w *world) serve(name string, h http.HandlerFunc) string {
	return w.net.Serve(name, h, w.mode).URL
}

// before has a handler see each request first. It returns true where it has answered.
func (w *world) before(h func(rw http.ResponseWriter, r *http.Request) bool) {
	w.reg.Configure(func(o *registrytest.Options) { o.Before = h })
}

// statusError is the error of an answer that is a failure.
type statusError struct{ exchange.Failure }

func (e *statusError) Error() string {
	return e.Method + " " + e.URL + ": " + http.StatusText(e.Status)
}

// pusher returns a pusher to the registry at base.
func (w *world) pusher(base string) *push.Pusher {
	w.t.Helper()
	registry, err := wire.ParseRegistry(base)
	require.NoError(w.t, err)
	transport := w.net.Transport()
	transport.ExpectContinueTimeout = time.Second
	var round http.RoundTripper = transport
	if w.round != nil {
		round = w.round(transport)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)
	dog := watchdog.New(10*time.Second, nil)
	go dog.Run(ctx)
	var bodies *pace.BodyLimiter
	if w.bodies > 0 {
		bodies = pace.NewBodyLimiter(w.bodies, true)
	}
	return push.New(push.Config{
		Exchange: exchange.New(exchange.Config{
			Registry: registry, Client: wire.NewClient(&http.Client{Transport: round}, "test", 8),
			Watchdog: dog, Bodies: bodies,
			Tokens: exchange.NewTokens(ctx, "secret", w.getToken), Log: slog.New(slog.DiscardHandler),
			StatusError: func(f exchange.Failure) error { return &statusError{f} },
		}),
		Registry: registry, Repository: repository, Sessions: sessions.Open(),
		Log: slog.New(slog.DiscardHandler),
		Open: func(dg digest.Digest, _ int64) (*os.File, error) {
			return os.Open(filepath.Join(w.dir, dg.Encoded()))
		},
		Moved:    func(n int64) { w.moved.Add(n) },
		First:    w.first,
		KeepSize: keepSize,
	})
}

// keepSize is from which size on sessions are kept for the next call, and largeSize that of such a blob.
const (
	keepSize  = 16 << 20
	largeSize = 20 << 20
)

// blob is a file of the world's directory.
type blob struct {
	digest digest.Digest
	data   []byte
}

func (b blob) size() int64 { return int64(len(b.data)) }

// local returns a blob of that size that is in the directory.
func (w *world) local(size int) blob {
	w.t.Helper()
	c := registrytest.ContentOf(size, 0)
	w.reg.Expect(c.Digest, c.Data)
	b := blob{c.Digest, c.Data}
	w.replace(b, b.data)
	return b
}

// stored has the registry have a blob.
func (w *world) stored(repo string, b blob) { w.reg.Replace(repo, b.digest, b.data) }

// replace makes the file of a blob another.
func (w *world) replace(b blob, data []byte) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, b.digest.Encoded()), data, 0o600))
}

// run makes attempts as a call does.
func (w *world) run(
	ctx context.Context, budget *retry.Budget, attempt func(context.Context) (moved bool, err error),
) error {
	loop := retry.Loop{
		Answered: func() bool { return true }, Overloaded: func() { w.overloads.Add(1) },
		Log: slog.New(slog.DiscardHandler),
	}
	return loop.Run(ctx, budget, "test", attempt)
}

func (w *world) budget() *retry.Budget { return retry.NewBudget(cmp.Or(w.timeout, 5*time.Minute)) }

// push pushes a blob with a pusher of its own.
func (w *world) push(b blob, from string) error {
	w.t.Helper()
	return w.pushWith(w.t.Context(), w.pusher(w.server.URL), b, from)
}

func (w *world) pushWith(ctx context.Context, p *push.Pusher, b blob, from string) error {
	budget := w.budget()
	up := p.Blob(b.digest, b.size(), []string{from}, budget)
	return up.Close(ctx, w.run(ctx, budget, up.Attempt))
}

// manifest pushes a manifest under the tag "latest".
func (w *world) manifest(data []byte) error {
	w.t.Helper()
	budget := w.budget()
	m := w.pusher(w.server.URL).Manifest(data, "latest", budget)
	return w.run(w.t.Context(), budget, m.Attempt)
}

// requireStored checks that the registry has all of a blob, and no session.
func (w *world) requireStored(b blob) {
	w.t.Helper()
	w.reg.Wait()
	data, ok := w.reg.Blob(b.digest)
	require.True(w.t, ok, "the registry lacks the blob")
	require.True(w.t, bytes.Equal(b.data, data), "the content of the blob")
	require.Equal(w.t, b.size(), w.moved.Load(), "progress")
	require.Zero(w.t, w.reg.Sessions(), "sessions")
}

// pushAll pushes blobs with one pusher, all at once.
func (w *world) pushAll(from string, blobs ...blob) error {
	p := w.pusher(w.server.URL)
	var g errgroup.Group
	for _, b := range blobs {
		g.Go(func() error { return w.pushWith(w.t.Context(), p, b, from) })
	}
	return g.Wait()
}

// asked are the methods of all requests, in order.
func (w *world) asked() string {
	var methods []string
	for _, r := range w.reg.Requests() {
		methods = append(methods, r.Method)
	}
	return strings.Join(methods, " ")
}

// drain reads the rest of a body, and returns how long that was.
func drain(r *http.Request) int64 {
	n, _ := io.Copy(io.Discard, r.Body)
	return n
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
