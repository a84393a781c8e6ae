package transfer_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestI19DownloadConcurrency(t *testing.T) {
	for _, n := range []int{-1, math.MinInt, 1, 100_000, math.MaxInt} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				opts := w.downloadOptions(w.remote(1000), w.remote(2000), w.remote(3000))
				opts.Concurrency, opts.BodyConcurrency = n, n
				require.NoError(t, w.download(opts))
			})
		})
	}
}

func TestI19UploadConcurrency(t *testing.T) {
	for _, n := range []int{-1, math.MinInt, 0, 1, math.MaxInt} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				var blobs []transfer.Blob
				for i := range 40 {
					blobs = append(blobs, w.local(100+i))
				}
				opts := w.uploadOptions(blobs...)
				opts.Concurrency, opts.BodyConcurrency = n, n
				require.NoError(t, w.upload(opts))
			})
		})
	}
}

// I19: a caller who sets Concurrency bounds all requests, those that only ask included.
func TestI19UploadConcurrencyBoundsRequests(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		const most = 3
		w := newWorld(t, mode, registrytest.Options{})
		var mu sync.Mutex
		active, peak := 0, 0
		count := func(by int) (most int) {
			mu.Lock()
			defer mu.Unlock()
			active += by
			peak = max(peak, active)
			return peak
		}
		busy := w.net.Serve("busy.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			count(1)
			defer count(-1)
			time.Sleep(20 * time.Millisecond)
			w.reg.ServeHTTP(rw, r)
		}), mode)
		opts := w.uploadOptions()
		for i := range 20 {
			opts.Blobs = append(opts.Blobs, w.local(1000+i))
		}
		opts.BaseURL, opts.Concurrency = busy.URL, most
		require.NoError(t, w.upload(opts))
		assert.Equal(t, most, count(0))
	})
}

func TestDownloadBodyConcurrency(t *testing.T) {
	type test struct{ concurrency, bodies, want int }
	for _, c := range []test{{8, 3, 3}, {2, 0, 2}, {4, 100, 4}, {1, 1, 1}} {
		t.Run(fmt.Sprint(c.concurrency, c.bodies), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault("GET", "", "**delay(100ms)+slow(1M)")
				var blobs []transfer.Blob
				for range 10 {
					blobs = append(blobs, w.remote(300<<10))
				}
				opts := w.downloadOptions(blobs...)
				opts.Concurrency, opts.BodyConcurrency = c.concurrency, c.bodies
				require.NoError(t, w.download(opts))
				assert.Equal(t, c.want, w.reg.MaxInFlight())
			})
		})
	}
}

func TestI19BodiesAreBounded(t *testing.T) {
	cases := map[string]transfer.UploadOptions{
		"Concurrency":     {Concurrency: 3},
		"BodyConcurrency": {Concurrency: 20, BodyConcurrency: 3},
		"the lower one":   {Concurrency: 3, BodyConcurrency: 20},
	}
	eachInBubbles(t, cases, func(
		t *testing.T, mode registrytest.Mode, _ string, bounds transfer.UploadOptions,
	) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "**slow(1M)")
		var blobs []transfer.Blob
		for i := range 12 {
			blobs = append(blobs, w.local(2<<20+i))
		}
		opts := w.uploadOptions(blobs...)
		opts.Concurrency, opts.BodyConcurrency = bounds.Concurrency, bounds.BodyConcurrency
		begun := time.Now()
		require.NoError(t, w.upload(opts))
		w.reg.Wait()
		assert.Greater(t, w.reg.MaxInFlight(), 1)
		// A body that was handed over leaves its slot to the next one, while its last bytes are on the way.
		assert.LessOrEqual(t, w.reg.MaxInFlight(), 2*3)
		assert.Greater(t, time.Since(begun), 4*time.Second, "24 MiB, at most 6 MiB/s")
	})
}

// I8: however many files are hashed again, few are at once.
func TestI8VerifyOfManyBlobs(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	opts := w.downloadOptions()
	for i := range 200 {
		opts.Blobs = append(opts.Blobs, w.local(100_000+i))
	}
	opts.Verify = true
	done, most := make(chan struct{}), make(chan int)
	before := runtime.NumGoroutine()
	go func() {
		n := 0
		for {
			select {
			case <-done:
				most <- n
				return
			default:
				n = max(n, runtime.NumGoroutine())
				runtime.Gosched()
			}
		}
	}()
	err := transfer.Download(t.Context(), opts)
	close(done)
	assert.Less(t, <-most-before, 50)
	require.NoError(t, err)
	assert.Empty(t, w.reg.Requests())
}

// allocated returns the bytes that the process has allocated so far.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

func TestI8ManyBlobs(t *testing.T) {
	const few, many, perBlob = 4_000, 24_000, 1024 // the last in bytes
	var most int64
	memory := func(there int) int64 {
		allocated, goroutines := downloadAmong(t, there)
		most = max(most, goroutines)
		return int64(allocated)
	}
	fixed := memory(few)
	assert.Less(t, fixed, int64(64<<20), "bytes, those of the server among them")
	assert.Less(t, (memory(many)-fixed)/(many-few), int64(perBlob), "bytes for each blob that is there")
	assert.Less(t, most, int64(150), "goroutines, with those of the connections and the server")
}

// downloadAmong downloads 300 blobs whose list has others too, that are there. It returns the bytes that were
// allocated meanwhile and how many goroutines more there were at once than before.
func downloadAmong(t *testing.T, there int) (memory uint64, goroutines int64) {
	t.Helper()
	const missing, concurrency = 300, 8
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	blobs := make([]transfer.Blob, 0, there+missing)
	source := filepath.Join(w.dir, "source")
	for i := range there { // trusted by their size
		b := transfer.Blob{Digest: digest.FromString(fmt.Sprint(i)).String()}
		blobs = append(blobs, b)
		if os.Link(source, w.path(b)) != nil { // it has as many names as it can have
			source = w.path(b)
			require.NoError(t, os.WriteFile(source, nil, 0o644))
		}
	}
	for range missing {
		blobs = append(blobs, w.remote(100))
	}
	opts := w.downloadOptions(blobs...)
	opts.Concurrency = concurrency
	w.client.Transport.(*http.Transport).MaxIdleConnsPerHost = concurrency
	var most atomic.Int64
	opts.Progress = func(int64, int64) { most.Store(max(most.Load(), int64(runtime.NumGoroutine()))) }
	before, begin := int64(runtime.NumGoroutine()), allocated()
	require.NoError(t, transfer.Download(t.Context(), opts))
	memory = allocated() - begin
	for _, b := range blobs[there:] {
		w.requireBlob(b)
	}
	assert.Len(t, w.reg.Requests(), missing)
	return memory, most.Load() - before
}

func TestI8ManyMissingBlobsOfOneWorker(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		var blobs []transfer.Blob
		for range 100 {
			blobs = append(blobs, w.remote(50))
		}
		opts := w.downloadOptions(blobs...)
		opts.Concurrency = 1
		require.NoError(t, w.download(opts))
		assert.Len(t, w.reg.Requests(), 100)
		assert.Equal(t, 1, w.dials(), "the connection is used again")
	})
}

func TestI8ManyBlobsFewGoroutines(t *testing.T) {
	const count, concurrency = 1500, 4
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	var blobs []transfer.Blob
	for i := range count {
		// All are in the registry, so that what is in the files does not matter.
		dg := digest.FromBytes([]byte{byte(i), byte(i >> 8)})
		w.reg.Replace(repository, dg, []byte{1})
		blobs = append(blobs, transfer.Blob{Digest: dg.String(), Size: 1})
		require.NoError(t, os.WriteFile(w.path(blobs[i]), []byte{1}, 0o644))
	}
	most, before := 0, runtime.NumGoroutine() // what tests before have left is still ending
	w.observe(func() { most = max(most, runtime.NumGoroutine()) })
	opts := w.uploadOptions(blobs...)
	opts.Concurrency = concurrency
	// Else the transport dials more than it needs whenever a dial takes longer than a request.
	w.client.Transport.(*http.Transport).MaxConnsPerHost = 3 * concurrency
	require.NoError(t, transfer.Upload(t.Context(), opts))
	w.reg.Wait()
	assert.Less(t, most-before, 200)
	assert.Equal(t, [2]int64{count, count}, w.progress.calls[len(w.progress.calls)-1])
}

func TestDownloadMaxBytesPerSecond(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.remote(4<<20), w.remote(3<<20), w.remote(2<<20), w.remote(1<<20))
		opts.MaxBytesPerSecond = 1 << 20
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.InEpsilon(t, 10, took.Seconds(), 0.05)
	})
}

// Pieces that are slow only because of the cap are left with those who have them: on a new connection
// they would be no faster, and what was on its way would come twice.
func TestDownloadMaxBytesPerSecondFetchesNothingTwice(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b, fast := w.remote(30<<20), w.remote(64<<10) // this one comes before the cap is felt
		opts := w.downloadOptions(b, fast)
		opts.MaxBytesPerSecond = 3 << 20
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.Equal(t, b.Size+fast.Size, w.reg.BytesSent())
	})
}

// What has to be read past counts too.
func TestDownloadMaxBytesPerSecondWithoutRanges(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoRange: true})
		b := w.remote(4 * mebibyte)
		w.reg.Fault("GET", b.Digest, "slow(4M)+eof(2M)")
		opts := w.downloadOptions(b)
		opts.MaxBytesPerSecond = mebibyte
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.InEpsilon(t, 6, took.Seconds(), 0.1)
	})
}

func TestDownloadMaxBytesPerSecondIsNoStall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(10_000)
		opts := w.downloadOptions(b)
		opts.MaxBytesPerSecond, opts.StallTimeout = 100, time.Second
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.InEpsilon(t, 100, took.Seconds(), 0.05)
		assert.Equal(t, 1, w.gets(b))
	})
}

func TestUploadSpeedCap(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(4<<20), w.local(1<<20))
		opts.MaxBytesPerSecond = 256 << 10
		begun := time.Now()
		require.NoError(t, w.upload(opts))
		assert.InDelta(t, 20, time.Since(begun).Seconds(), 1, "seconds")
	})
}

func TestALimiterIsSharedByFortyCalls(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		limiter := transfer.NewLimiter(4 << 20)
		var wg sync.WaitGroup
		start := time.Now()
		for i := range 20 {
			down := w.downloadOptions(w.remote(mebibyte))
			down.DestDir, down.Progress, down.Limiter = fmt.Sprint(down.DestDir, "/", i), nil, limiter
			wg.Go(func() { assert.NoError(t, transfer.Download(t.Context(), down)) })
			up := w.uploadOptions(w.local(mebibyte))
			up.Progress, up.Limiter = nil, limiter
			wg.Go(func() { assert.NoError(t, transfer.Upload(t.Context(), up)) })
		}
		wg.Wait()
		assert.InEpsilon(t, 10, time.Since(start).Seconds(), 0.05)
	})
}

func TestTheLowerOfTwoLimitsRules(t *testing.T) {
	for name, c := range map[string]struct{ own, shared int64 }{
		"its own": {1 << 20, 10 << 20}, "the shared one": {10 << 20, 1 << 20}, "only its own": {1 << 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				opts := w.downloadOptions(w.remote(10 * mebibyte))
				opts.MaxBytesPerSecond, opts.Limiter = c.own, transfer.NewLimiter(c.shared)
				took, err := w.timed(opts)
				require.NoError(t, err)
				assert.InEpsilon(t, 10, took.Seconds(), 0.05)
			})
		})
	}
}

// What one call has used up holds another up, but no longer than its context.
func TestAWaitForASharedLimiterEndsWithTheCall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.remote(10 * mebibyte))
		opts.Limiter = transfer.NewLimiter(1 << 10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		assert.ErrorIs(t, transfer.Download(ctx, opts), context.DeadlineExceeded)
		assert.Less(t, time.Since(start), 1100*time.Millisecond)
	})
}

// slowLink is a link that all bodies share, whatever server they come from.
type slowLink struct {
	speed   int // bytes a second
	portion int // what passes at once, bytes; 0: 64 KiB up and 16 KiB down

	mu   sync.Mutex
	free time.Time // when all that was written so far has passed; guarded by mu
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

// over returns a handler whose answers pass the link.
func (l *slowLink) over(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&slowWriter{w, l, r.Context()}, r)
	})
}

type slowWriter struct {
	http.ResponseWriter
	link *slowLink
	ctx  context.Context
}

func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *slowWriter) Write(p []byte) (n int, err error) {
	portion := cmp.Or(w.link.portion, 16<<10)
	for err == nil && n < len(p) {
		part := p[n:min(n+portion, len(p))]
		w.link.pass(w.ctx, len(part))
		var m int
		m, err = w.ResponseWriter.Write(part)
		n += m
	}
	return n, err
}

// up returns a handler whose requests pass the link.
func (l *slowLink) up(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 0 {
			r.Body = &slowBody{r.Body, l, r.Context()}
		}
		h.ServeHTTP(w, r)
	})
}

// slowBody is the body of a request that passes a link.
type slowBody struct {
	io.ReadCloser
	link *slowLink
	ctx  context.Context
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), cmp.Or(b.link.portion, 64<<10))])
	b.link.pass(b.ctx, n)
	return n, cmp.Or(err, b.ctx.Err())
}

// A slow link does not begin with 64 bodies: calls that are cut short again and again still come to an end
// soon.
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
				// Sixteen is the first number of a far link, which may have been raised once by then.
				assert.LessOrEqual(t, early, 24, "requests with which the first call begins")
			})
		})
	}
}

// crowd serves blobs from far away, to all bodies at once no more than speed bytes a second. With more than
// enough bodies, that falls with the square of their number.
type crowd struct {
	data          func(path string) []byte
	speed, enough int
	noRanges      bool

	mu        sync.Mutex // guards the fields that follow
	now, most int        // bodies
	sent      int        // bytes
	calm      time.Time  // since when there were never more than enough
}

func (c *crowd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(50 * time.Millisecond)
	if c.noRanges {
		data := c.data(r.URL.Path)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		(&crowded{w, c}).Write(data)
		return
	}
	http.ServeContent(&crowded{w, c}, r, "", time.Time{}, bytes.NewReader(c.data(r.URL.Path)))
}

func (c *crowd) count(bodies, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += bodies
	c.most = max(c.most, c.now)
	c.sent += bytes
}

// delay returns how long a body takes now for so many bytes.
func (c *crowd) delay(bytes int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	excess := max(1, float64(c.now)/float64(c.enough))
	if excess > 1 {
		c.calm = time.Now()
	}
	return time.Duration(float64(bytes*c.now) * excess * excess / float64(c.speed) * float64(time.Second))
}

// crowded is the body for one of the crowd.
type crowded struct {
	http.ResponseWriter
	*crowd
}

func (w *crowded) Write(p []byte) (n int, err error) {
	w.count(1, 0)
	defer func() { w.count(-1, n) }()
	const portion = 8 << 10
	for err == nil && n < len(p) {
		time.Sleep(w.delay(portion))
		var m int
		m, err = w.ResponseWriter.Write(p[n:min(n+portion, len(p))])
		n += m
	}
	return n, err
}

// A far server gets many bodies at once. Where that is more than it can stand, they are called back.
func TestBodiesThatAreTooManyAreCalledBack(t *testing.T) {
	for _, count := range []int{1, 32} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				opts := w.downloadOptions()
				byPath := make(map[string][]byte)
				for i := range count {
					b := w.remote(96*mebibyte/count + i)
					byPath["/v2/"+repository+"/blobs/"+b.Digest] = w.data(b)
					opts.Blobs = append(opts.Blobs, b)
				}
				data := func(path string) []byte { return byPath[path] }
				c := &crowd{data: data, speed: 16 * mebibyte, enough: 16}
				opts.BaseURL = w.net.Serve("crowd.test", c, registrytest.H1).URL
				begin := time.Now()
				took, err := w.timed(opts)
				require.NoError(t, err)
				assert.Greater(t, c.most, c.enough)
				assert.Less(t, c.calm.Sub(begin), 10*time.Second)
				assert.Less(t, took, 14*time.Second, "it is 28 s where they go on")
				assert.Less(t, c.sent, 97*mebibyte, "little is fetched again")
			})
		})
	}
}

// All that a body has brought would be fetched again where the server serves no ranges.
func TestBodiesAreNotCalledBackWhereNoRangesAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		opts := w.downloadOptions()
		byPath := make(map[string][]byte)
		total := 0
		for i := range 64 {
			b := w.remote(3*mebibyte/2 + i)
			byPath["/v2/"+repository+"/blobs/"+b.Digest] = w.data(b)
			opts.Blobs = append(opts.Blobs, b)
			total += 3*mebibyte/2 + i
		}
		c := &crowd{
			data: func(path string) []byte { return byPath[path] }, speed: 16 * mebibyte, enough: 16,
			noRanges: true,
		}
		opts.BaseURL = w.net.Serve("crowd.test", c, registrytest.H1).URL
		_, err := w.timed(opts)
		require.NoError(t, err)
		synctest.Wait() // for the last body to be counted
		assert.Greater(t, c.most, c.enough)
		assert.Equal(t, total, c.sent)
	})
}
