package transfer

import (
	"context"
	"errors"
	"math"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/blobstore"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// The private names that the tests of programs use which have a copy of this package in their tree.
var (
	_ func(digest string) string                                             = digestToPath
	_ func(header string) AuthChallenge                                      = parseAuthChallenge
	_ func(ctx context.Context, attempt int, maxBackoff time.Duration) error = backoff

	_ string        = defaultUserAgent
	_ time.Duration = defaultStallTimeout
	_ int           = maxRetries

	_ progressTracker
	_ speedTracker
)

func TestAPIPrivateNames(t *testing.T) {
	for digest, path := range map[string]string{
		"sha256:abc": "sha256-abc", "sha256-abc": "sha256-abc", "x": "x",
	} {
		assert.Equal(t, path, digestToPath(digest))
	}
	header := `Bearer realm="https://auth.test/token",service="registry",scope="repository:a/b:pull"`
	assert.Equal(t, AuthChallenge{
		Realm: "https://auth.test/token", Service: "registry", Scope: "repository:a/b:pull",
	}, parseAuthChallenge(header))
	assert.NotEmpty(t, defaultUserAgent)
	assert.Equal(t, 10*time.Second, defaultStallTimeout)
	assert.Equal(t, 6, maxRetries)
}

func TestAPIPrivateBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		require.NoError(t, backoff(t.Context(), 100, time.Second))
		assert.InDelta(t, 750*time.Millisecond, time.Since(begun), float64(250*time.Millisecond))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, backoff(ctx, 1, time.Hour), context.Canceled)
	})
}

func TestAPIPrivateTrackers(t *testing.T) {
	var s speedTracker
	for _, speed := range []float64{1, 100, 3} {
		s.Record(speed)
	}
	assert.Equal(t, 3.0, s.Median())

	var completed, total int64
	p := newProgressTracker(10, func(c, of int64) { completed, total = c, of }, func() {})
	p.start(4)
	p.add(6)
	assert.Nil(t, p.finish(t.Context()))
	assert.Equal(t, [2]int64{10, 10}, [2]int64{completed, total})
}

func TestTemporaryStatus(t *testing.T) {
	temporary := map[int]bool{
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true,
		520: true, 521: true, 522: true, 523: true, 524: true, 530: true,
	}
	for code := 200; code < 600; code++ {
		assert.Equal(t, temporary[code], (&StatusError{StatusCode: code}).Temporary(), "%d", code)
	}
}

// A digest that passes is a plain file name of the directory, whatever it was made of.
func FuzzDigest(f *testing.F) {
	f.Fuzz(func(t *testing.T, dg string) {
		c := call{options: options{blobs: []Blob{{Digest: dg}}}}
		if err := c.checkBlobs(); err != nil {
			require.ErrorIs(t, err, ErrInvalidDigest)
			return
		}
		name := digestToPath(dg)
		require.True(t, filepath.IsLocal(name), name)
		require.Equal(t, name, filepath.Base(name))
		require.False(t, strings.ContainsAny(name, "/\\:\x00%?#"), name)
	})
}

func TestI19ConcurrencyIsClamped(t *testing.T) {
	for given, want := range map[int]int{
		math.MinInt: 64, -1: 64, 0: 64, 1: 1, 1024: 1024, 1025: 1024, math.MaxInt: 1024,
	} {
		c, err := newCall(options{
			baseURL: "http://registry.test", limits: limits{concurrency: given, defaultConcurrency: 64},
		})
		require.NoError(t, err)
		assert.Equal(t, want, c.concurrency, given)
	}
}

// E16: planning ends with the context, however many blobs there are. There is no directory that could be
// looked at.
func TestE16CancelEndsPlanning(t *testing.T) {
	ours := errors.New("the caller's own reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ours)
	c := &call{list: make([]blob, 3)}
	d := &downloader{call: c, missing: []pending{{}}}
	for _, verify := range []bool{false, true} {
		_, err := d.present(ctx, verify)
		require.ErrorIs(t, err, ours)
		require.ErrorIs(t, d.plan(ctx, verify), ours)
	}
	require.ErrorIs(t, (&uploader{call: c}).checkSources(ctx), ours)
}

// endsSoon is a context that ends after so many of the questions whether it has.
type endsSoon struct {
	context.Context
	left int
}

func (c *endsSoon) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// E16: so does looking what is there of each blob, when it is known which are.
func TestE16CancelEndsLookingForPartials(t *testing.T) {
	dir, err := blobstore.Open(t.TempDir())
	require.NoError(t, err)
	c := &call{list: []blob{{digest: digest.FromString("x"), size: 1}}}
	d := &downloader{call: c, dir: dir}
	require.ErrorIs(t, d.plan(&endsSoon{t.Context(), 1}, false), context.Canceled)
	assert.Empty(t, d.missing)
	require.NoError(t, dir.Close())
}

// E14: a call that was cancelled says so, though there is no space either.
func TestE14CancelledCallSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir, err := blobstore.Open(t.TempDir())
	require.NoError(t, err)
	d := &downloader{call: &call{}, dir: dir, missing: []pending{{blob{size: math.MaxInt64}, 0}}}
	require.ErrorIs(t, d.checkSpace(ctx, math.MaxInt64), context.Canceled)
	require.NoError(t, dir.Close())
}

// One call at a time, from what is there to the end, and what came meanwhile in one.
func TestProgressTracker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls [][2]int64
		p := newProgressTracker(10, func(completed, total int64) {
			calls = append(calls, [2]int64{completed, total})
			time.Sleep(time.Second)
		}, nil)
		p.start(3)
		synctest.Wait()
		p.add(1)
		p.add(2)
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)
		p.add(4)
		p.add(0)
		assert.Nil(t, p.finish(t.Context()))
		assert.Equal(t, [][2]int64{{3, 10}, {6, 10}, {10, 10}}, calls)
	})
}

func TestProgressTrackerWithoutCallback(t *testing.T) {
	p := newProgressTracker(10, nil, nil)
	p.start(10)
	assert.Nil(t, p.finish(t.Context()))
	var none *progressTracker
	none.add(1)
}

func TestProgressTrackerPanic(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { panic("ours") }, func() { stopped.Store(true) })
	p.start(0)
	p.add(5)
	assert.Equal(t, "ours", p.finish(t.Context()))
	assert.True(t, stopped.Load())
}

func TestProgressTrackerNilPanic(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { panic(nil) }, func() { stopped.Store(true) })
	p.start(0)
	assert.NotNil(t, p.finish(t.Context()))
	assert.True(t, stopped.Load())
}

func TestProgressTrackerExit(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { runtime.Goexit() }, func() { stopped.Store(true) })
	p.start(0)
	assert.Nil(t, p.finish(t.Context()))
	assert.True(t, stopped.Load())
}

func BenchmarkProgress(b *testing.B) {
	p := newProgressTracker(1<<62, func(int64, int64) {}, func() {})
	p.start(0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.add(128 << 10)
		}
	})
	require.Nil(b, p.finish(b.Context()))
}

// answers is a transport.
type answers func(*http.Request) *http.Response

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

// What is away, or lacking, that is no server of bodies, says nothing of how many of them may move.
func TestE6WhoIsNoServerOfBodiesHalvesNoLimit(t *testing.T) {
	away := &StatusError{StatusCode: http.StatusServiceUnavailable}
	for name, test := range map[string]struct {
		fails  error // of GetToken
		status int   // of the registry, where that is nil
		halves bool
	}{
		"a token server": {fails: away},
		"the registry":   {status: http.StatusServiceUnavailable, halves: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c, err := newCall(options{
					baseURL: "http://registry.test", limits: limits{defaultConcurrency: 64},
					client: &http.Client{Transport: answers(func(r *http.Request) *http.Response {
						status := http.StatusOK
						if asked++; asked <= 3 {
							status = max(test.status, http.StatusUnauthorized)
						}
						return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}
					})},
					getToken: func(context.Context, AuthChallenge) (string, error) { return "", test.fails },
				})
				require.NoError(t, err)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer c.open(ctx, cancel)()
				defer cancel(nil)
				slot, err := c.bodies.Acquire(ctx, 8<<20)
				require.NoError(t, err)
				defer slot.Release()
				before := c.bodies.Large()
				budget := retry.NewBudget(time.Minute)
				require.NoError(t, c.retry.Run(ctx, budget, "x", func(ctx context.Context) (bool, error) {
					resp, err := c.exchange.Do(ctx, exchange.Request{Request: wire.Request{
						Method: http.MethodHead, Target: c.registry.Manifest(c.repository, "latest"),
					}})
					if err == nil && exchange.Failed(resp.StatusCode) {
						err = c.exchange.Error(resp)
					}
					return false, err
				}))
				assert.Equal(t, test.halves, c.bodies.Large() < before)
			})
		})
	}
}
