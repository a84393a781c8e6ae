package transfer_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/watchdog"
)

func TestN20Download(t *testing.T) {
	for _, code := range []int{408, 425, 429, 500, 502, 503, 504, 522, 524} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, fmt.Sprintf("3*%d", code))
				took, err := w.timed(w.downloadOptions(b))
				require.NoError(t, err)
				assert.Equal(t, 4, w.gets(b))
				assert.Greater(t, took, 700*time.Millisecond, "half of 0.2, 0.4 and 0.8 s at least")
				assert.Less(t, took, 2*time.Second)

				w.reg.Fault("GET", b.Digest, fmt.Sprintf("**%d", code))
				w.dir, w.progress = t.TempDir(), &progressLog{}
				took, err = w.timed(w.downloadOptions(b))
				w.requireStatus(err, b, code)
				w.requireExhausted(err, b, transfer.ErrRetriesExhausted)
				assert.InDelta(t, 5*time.Minute, took, float64(time.Second))
				assert.LessOrEqual(t, w.gets(b), 4+25)
				w.requireNothing(b)
			})
		})
	}
}

func TestN21Download(t *testing.T) {
	for _, code := range []int{
		400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 418, 451, 501, 505, 204, 304,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, fmt.Sprintf("**%d", code))
				took, err := w.timed(w.downloadOptions(b))
				status := w.requireStatus(err, b, code)
				if code >= 400 {
					assert.Equal(t, []transfer.RegistryError{{Code: "UNKNOWN", Message: "injected fault"}},
						status.Errors)
				}
				assert.Equal(t, 1, w.gets(b))
				assert.Less(t, took, noBackoff)
				w.requireNothing(b)
			})
		})
	}
}

func TestUploadN20TemporaryStatus(t *testing.T) {
	for _, code := range []int{408, 425, 429, 500, 502, 503, 504, 522, 524} {
		for _, g := range guarded[1:] {
			t.Run(fmt.Sprintf("%d %s", code, g.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					fault := w.reg.Fault(g.method, g.path, fmt.Sprintf("3*%d", code))
					begun := time.Now()
					require.NoError(t, w.move(t.Context(), g.name, nil))
					assert.True(t, fault.Done())
					assert.Greater(t, time.Since(begun), 700*time.Millisecond, "0.1 + 0.2 + 0.4 s at least")
					assert.Less(t, time.Since(begun), 2*time.Second)
				})
			})
		}
	}
}

func TestN20UploadTemporaryStatusForEver(t *testing.T) {
	for _, g := range guarded[1:] {
		t.Run(g.name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault(g.method, g.path, "**503")
				begun := time.Now()
				err := w.move(t.Context(), g.name, nil)
				requireStatus(t, err, http.StatusServiceUnavailable)
				require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
				assert.InDelta(t, 5, time.Since(begun).Minutes(), 0.5, "minutes")
				assert.LessOrEqual(t, w.reg.Count(g.method, g.path), 40)
				if g.name != "manifest" {
					var blob *transfer.BlobError
					require.ErrorAs(t, err, &blob)
					assert.Greater(t, blob.Attempts, 10)
				}
			})
		})
	}
}

func TestUploadN21PermanentStatus(t *testing.T) {
	for _, code := range []int{300, 304, 400, 402, 403, 404, 405, 406, 409, 410, 415, 451, 501, 505} {
		for _, g := range guarded[2:] {
			if code == http.StatusNotFound && g.name == "PUT" {
				continue // the session is lost: U9
			}
			t.Run(fmt.Sprintf("%d %s", code, g.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					w.reg.Fault(g.method, g.path, fmt.Sprintf("**%d", code))
					begun := time.Now()
					requireStatus(t, w.move(t.Context(), g.name, nil), code)
					tries := 1
					if g.name == "PUT" && (code == 400 || code == 405 || code == 501) {
						tries = 2 // U29: once of the whole, and once after a PATCH
					}
					assert.Equal(t, tries, w.reg.Count(g.method, g.path))
					assert.Less(t, time.Since(begun), noBackoff)
				})
			})
		}
	}
}

// I13: of an error body no more is read than tells something.
func TestI13DownloadErrorBodies(t *testing.T) {
	cases := map[string]int{
		"**404+errorbody(endless)": 404, "**403+errorbody(1G)": 403, "503+errorbody(endless)": 0,
		"**404+errorbody(0)": 404,
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, script string, want int) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, script)
		took, err := w.timed(w.downloadOptions(b))
		if want == 0 {
			require.NoError(t, err)
		} else {
			status := w.requireStatus(err, b, want)
			assert.Empty(t, status.Errors)
			assert.Less(t, len(err.Error()), 1000)
		}
		assert.Less(t, took, time.Second)
		assert.Less(t, w.reg.BytesSent(), int64(6*mebibyte), "64 KiB and what the connection buffers")
	})
}

func TestI13UploadErrorBodies(t *testing.T) {
	for _, script := range []string{"**403+errorbody(1G)", "**403+errorbody(endless)"} {
		for _, g := range guarded[2:] { // a HEAD has none
			t.Run(script+" "+g.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					w.reg.Fault(g.method, g.path, script)
					err := w.move(t.Context(), g.name, nil)
					requireStatus(t, err, http.StatusForbidden)
					assert.Less(t, len(err.Error()), 1000)
					w.reg.Wait()
					assert.Less(t, w.reg.BytesSent(), int64(2<<20))
				})
			})
		}
	}
}

// I13: an answer says what it says, though its body never comes.
func TestI13ErrorBodyThatStalls(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "**404+errorbody(100)+stall(10)")
		took, err := w.timed(w.downloadOptions(b))
		w.requireStatus(err, b, http.StatusNotFound)
		assert.Equal(t, 1, w.gets(b))
		assert.LessOrEqual(t, took, 11*time.Second)
	})
}

func TestRetryTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{time.Millisecond, time.Second, time.Minute, time.Hour} {
		t.Run(timeout.String(), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, "**503")
				opts := w.downloadOptions(b)
				opts.RetryTimeout = timeout
				took, err := w.timed(opts)
				require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
				assert.InDelta(t, timeout, took, float64(time.Millisecond))
				assert.LessOrEqual(t, w.gets(b), 12+int(timeout/(15*time.Second)),
					"at most 30 s lie between tries, and not much less")
			})
		})
	}
}

// As long as bytes come, however slowly, nothing is given up.
func TestRetryTimeoutBeginsAgainWithEachByte(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(10_000)
		w.reg.Fault("GET", b.Digest, "12*delay(9s)+slow(1000)+eof(500)")
		opts := w.downloadOptions(b)
		opts.RetryTimeout = 15 * time.Second
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Greater(t, took, 100*time.Second)
		assert.Equal(t, 13, w.gets(b))
	})
}

// A blob whose turn comes late has its whole retry budget.
func TestDownloadWaitingForItsTurnIsNoFailure(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		first, second := w.remote(60_000), w.remote(50_000)
		w.reg.Fault("GET", first.Digest, "slow(100)")
		w.reg.Fault("GET", second.Digest, "3*503")
		opts := w.downloadOptions(first, second)
		opts.BodyConcurrency, opts.RetryTimeout = 1, time.Minute
		require.NoError(t, w.download(opts))
	})
}

// A blob that another call was fetching for long, in vain, has its whole retry budget too.
func TestDownloadWaitingForAnotherCallIsNoFailure(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "slow(100)->503")
		ctx, cancel := withCancelAfter(t, 10*time.Minute)
		defer cancel()
		wait := w.hold(ctx, w.downloadOptions(b))
		require.NoError(t, w.download(w.downloadOptions(b)))
		wait()
	})
}

func TestN18N19RetryAfter(t *testing.T) {
	bubbleStart := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		value string
		wait  time.Duration // 0: the usual backoff
	}{
		{"1", time.Second},
		{"100", 100 * time.Second},
		{"0", 0},
		{"-1", 0},
		{"junk", 0},
		{"1e9", 0},
		{"1000000000", 2 * time.Minute},
		{"99999999999999999999999", 2 * time.Minute},
		{bubbleStart.Add(45 * time.Second).Format(http.TimeFormat), 45 * time.Second},
		{bubbleStart.Add(240 * time.Hour).Format(http.TimeFormat), 2 * time.Minute},
		{bubbleStart.Add(-time.Hour).Format(http.TimeFormat), 0},
	} {
		t.Run(c.value, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, "429(retry-after: "+c.value+")")
				took, err := w.timed(w.downloadOptions(b))
				require.NoError(t, err)
				assert.Equal(t, 2, w.gets(b))
				if c.wait > 0 {
					assert.Equal(t, c.wait+latency, took)
				} else {
					assert.LessOrEqual(t, took, 200*time.Millisecond+latency, "the longest first backoff")
				}
			})
		})
	}
}

// The wait that a registry asks for is one for all requests, those that wait for their turn too.
func TestN18RetryAfterIsHostWide(t *testing.T) {
	for _, c := range []struct{ concurrency, bodies int }{{2, 0}, {16, 1}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				start := time.Now()
				w := newWorld(t, mode, registrytest.Options{})
				opts := w.downloadOptions()
				for i := range 20 {
					opts.Blobs = append(opts.Blobs, w.remote(1000+i))
				}
				w.reg.Fault("GET", "", "2*delay(1s)->429(retry-after: 60)->**delay(1s)")
				opts.Concurrency, opts.BodyConcurrency = c.concurrency, c.bodies
				require.NoError(t, w.download(opts))
				assert.Len(t, w.reg.Requests(), 21)
				for _, r := range w.reg.Requests() {
					d := r.At.Sub(start)
					early := d > 2*time.Second && d < time.Minute && r.Status != http.StatusTooManyRequests
					assert.False(t, early, "a request after %v", d)
				}
			})
		})
	}
}

func TestN18UploadRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		least  time.Duration
		most   time.Duration
	}{
		"429":        {"429(retry-after: 7)", 7 * time.Second, 8 * time.Second},
		"503":        {"503(retry-after: 7)", 7 * time.Second, 8 * time.Second},
		"twice":      {"2*503(retry-after: 7)", 14 * time.Second, 15 * time.Second},
		"capped":     {"503(retry-after: 1000000000)", 2 * time.Minute, 3 * time.Minute},
		"junk":       {"503(retry-after: soon)", 0, time.Second},
		"not a wait": {"503(retry-after: -1)", 0, time.Second},
	} {
		for _, g := range guarded[1:] {
			t.Run(name+" "+g.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					w.reg.Fault(g.method, g.path, c.script)
					begun := time.Now()
					require.NoError(t, w.move(t.Context(), g.name, nil))
					assert.GreaterOrEqual(t, time.Since(begun), c.least)
					assert.Less(t, time.Since(begun), c.most)
				})
			})
		}
	}
}

// N45: a wait that RetryTimeout does not allow is not begun.
func TestN45RetryAfterBeyondTheTimeout(t *testing.T) {
	for script, waits := range map[string]time.Duration{
		"**429(retry-after: 3600)": 0, "**503(retry-after: 31)": 0,
		"**503(retry-after: 20)": 20 * time.Second,
	} {
		t.Run(script, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, script)
				opts := w.downloadOptions(b)
				opts.RetryTimeout = 30 * time.Second
				took, err := w.timed(opts)
				require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
				var status *transfer.StatusError
				require.ErrorAs(t, err, &status)
				assert.ErrorContains(t, err, "asks to be left alone for")
				assert.InDelta(t, waits.Seconds(), took.Seconds(), 1)
			})
		})
	}
}

// N7: each byte counts, so that one in less than StallTimeout is enough.
func TestN7TrickleIsNoStall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(12)
		asked := 0
		handler := func(rw http.ResponseWriter, _ *http.Request) {
			asked++
			for _, one := range w.data(b) {
				_, _ = rw.Write([]byte{one})
				_ = http.NewResponseController(rw).Flush()
				time.Sleep(6 * time.Second)
			}
		}
		trickle := w.net.Serve("trickle.test", http.HandlerFunc(handler), mode)
		opts := w.downloadOptions(b)
		opts.BaseURL = trickle.URL
		require.NoError(t, w.download(opts))
		assert.Equal(t, 1, asked)
	})
}

func TestN7N8UploadStalls(t *testing.T) {
	for name, c := range map[string]struct{ method, path, script string }{
		"N7 body":      {"PUT", "/uploads/", "stallbody(1M)"},
		"N7 beginning": {"PUT", "/uploads/", "stallbody(0)"},
		"N8 answer":    {"PUT", "/uploads/", "stallheaders"},
		"N8 HEAD":      {"HEAD", "", "stallheaders"},
		"N8 POST":      {"POST", "", "stallheaders"},
		"N8 manifest":  {"PUT", "/manifests/", "stallheaders"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault(c.method, c.path, c.script)
				opts := w.uploadOptions(w.local(3 << 20))
				opts.StallTimeout = 4 * time.Second
				opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
				begun := time.Now()
				require.NoError(t, w.upload(opts))
				assert.GreaterOrEqual(t, time.Since(begun), 4*time.Second)
				assert.Less(t, time.Since(begun), 6*time.Second)
			})
		})
		t.Run(name+" for ever", func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault(c.method, c.path, "**"+c.script)
				opts := w.uploadOptions(w.local(3 << 20))
				opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
				begun := time.Now()
				err := w.upload(opts)
				require.ErrorIs(t, err, transfer.ErrStalled)
				require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
				w.reg.Wait()
				if c.method == "HEAD" { // the registry has not answered once
					assert.Equal(t, 6, w.reg.Count("HEAD", ""))
					return
				}
				assert.Greater(t, time.Since(begun), 5*time.Minute-30*time.Second)
				assert.Less(t, time.Since(begun), 6*time.Minute)
				assert.LessOrEqual(t, w.reg.Count(c.method, c.path), 35)
			})
		})
	}
}

func TestN8StallBeforeThereIsAConnection(t *testing.T) {
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"dial": func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"TLS handshake": func(context.Context, string, string) (net.Conn, error) {
			mute, _ := net.Pipe()
			return mute, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1TLS, registrytest.Options{})
				b := w.remote(1000)
				transport := w.net.Transport()
				transport.DialContext = dial
				opts := w.downloadOptions(b)
				opts.Client, opts.StallTimeout = &http.Client{Transport: transport}, 3*time.Second
				took, err := w.timed(opts)
				w.requireExhausted(err, b, transfer.ErrStalled)
				assert.InDelta(t, 6*3+5, took.Seconds(), 3, "six tries, and the waits between them")
				w.requireNothing(b)
			})
		})
	}
}

// N44: a server that scans the blob before its first byte, anew for each request, gets longer each time.
func TestN44FirstByteAfterALongScan(t *testing.T) {
	for _, script := range []string{"**delay(55s)", "**late(55s)"} {
		t.Run(script, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, script)
				took, err := w.timed(w.downloadOptions(b))
				require.NoError(t, err)
				assert.Equal(t, 4, w.gets(b), "10 s, 20 s, 40 s, and then it comes")
				assert.Less(t, took, 3*time.Minute)
			})
		})
	}
}

// N44: however long StallTimeout is, the waits for the first byte end with the retry budget, or with the
// StallTimeout of the last.
func TestN44WaitsForTheFirstByteEndWithTheBudget(t *testing.T) {
	for name, c := range map[string]struct{ stall, retry time.Duration }{
		"14s of 5m":    {14 * time.Second, 5 * time.Minute},
		"50s of 1m40s": {50 * time.Second, 100 * time.Second},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.remote(1000)
			w.reg.Fault("GET", b.Digest, "**stallheaders")
			opts := w.downloadOptions(b)
			opts.StallTimeout, opts.RetryTimeout = c.stall, c.retry
			took, err := w.timed(opts)
			require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
			require.ErrorIs(t, err, transfer.ErrStalled)
			assert.LessOrEqual(t, took, c.retry+c.stall)
		})
	}
}

// N44: once bytes have come, a stall is a stall again.
func TestN44StallAfterTheFirstByte(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "2*stallheaders->stall(300K)")
		opts := w.downloadOptions(b)
		opts.Concurrency = 1 // another worker would take over what stalls
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.InDelta(t, 10+20+10, took.Seconds(), 3)
	})
}

// A registry may hash a large body before it answers.
func TestSlowDigestIsNoStall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", "**late(2500ms)")
		opts := w.uploadOptions(w.local(33 << 20))
		opts.StallTimeout = time.Second
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 1, w.reg.Count("PUT", ""))
	})
}

// The time that a registry takes to hash a large blob does not count as time without progress.
func TestU11FailsAfterALongDigest(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		fault := w.reg.Fault("PUT", "", "read+late(1900ms)+504")
		opts := w.uploadOptions(w.local(33 << 20))
		opts.RetryTimeout = time.Second
		require.NoError(t, w.upload(opts))
		assert.True(t, fault.Done())
	})
}

// N9: a connection far slower than its peers is replaced three times, and then taken for what it is.
// Workers that have nothing else to do take over from it sooner, three times too.
func TestN9FarSlowerThanItsPeers(t *testing.T) {
	for concurrency, most := range map[int]int{5: 4, 64: 7} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				slow := w.remote(2500)
				w.reg.Fault("GET", slow.Digest, "**slow(100)")
				w.reg.Fault("GET", "", "**slow(100K)")
				opts := w.downloadOptions(slow)
				opts.Concurrency, opts.BodyConcurrency = concurrency, concurrency
				for range 4 {
					opts.Blobs = append(opts.Blobs, w.remote(3*mebibyte))
				}
				took, err := w.timed(opts)
				require.NoError(t, err)
				assert.Greater(t, w.gets(slow), 3)
				assert.LessOrEqual(t, w.gets(slow), most)
				assert.Less(t, took, 60*time.Second)
				assert.Zero(t, w.progress.falls)
			})
		})
	}
}

// N9: where all are slow it is the link, and no new connection would help.
func TestN9AllAreSlow(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("GET", "", "**slow(10)")
		opts := w.downloadOptions(w.remote(1000), w.remote(900), w.remote(800))
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Len(t, w.reg.Requests(), 3)
		assert.InDelta(t, 100, took.Seconds(), 2)
	})
}

// N9: a body that waited for its turn is not slow for that.
func TestN9WaitingForASlotIsNotSlow(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("GET", "", "**slow(100K)")
		opts := w.downloadOptions()
		opts.BodyConcurrency = 2
		for i := range 20 {
			opts.Blobs = append(opts.Blobs, w.remote(mebibyte+i*100_000))
		}
		require.NoError(t, w.download(opts))
		const helped = 2 // the last two blobs, by idle workers
		assert.LessOrEqual(t, len(w.reg.Requests()), len(opts.Blobs)+helped)
	})
}

// N9: nor is one that waited for what MaxBytesPerSecond leaves it.
func TestN9WaitingForTheCapIsNotSlow(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions()
		opts.MaxBytesPerSecond = 2000
		for i := range 64 {
			opts.Blobs = append(opts.Blobs, w.remote(3000+i))
		}
		require.NoError(t, w.download(opts))
		assert.Len(t, w.reg.Requests(), len(opts.Blobs))
	})
}

// What buffers on the way hold of a body is not seen to move: an answer that does not come in time is
// waited for longer.
func TestN9UploadOverASlowLinkWithBuffers(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "**slow(50K)")
		b := w.local(3 << 20)
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.LessOrEqual(t, w.reg.BytesReceived(), 3*b.Size)
	})
}

func TestN38Cancel(t *testing.T) {
	cases := map[string]string{
		"before the headers":  "stallheaders",
		"in the body":         "stall(500)",
		"while backing off":   "**503",
		"during Retry-After":  "2*429(retry-after: 100)",
		"in a slow body":      "slow(1)",
		"while slots are few": "**delay(2s)+slow(1)",
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		b, other := w.remote(1000), w.remote(999)
		fault := w.reg.Fault("GET", "", script)
		opts := w.downloadOptions(b, other)
		opts.Concurrency, opts.BodyConcurrency = 2, 1
		start := time.Now()
		ctx, cancel := withCancelAfter(t, 5*time.Second)
		defer cancel()
		err := transfer.Download(ctx, opts)
		require.ErrorIs(t, err, errOurs, "the caller's reason")
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 5*time.Second, time.Since(start))
		w.checkDownload(opts, err)
		w.requireNothing(b)
		w.reg.Wait()

		deadline, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		fault.Stop()
		w.reg.Fault("GET", "", "**stallheaders")
		err = transfer.Download(deadline, w.downloadOptions(b))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		w.requireNothing(b)
		w.reg.Wait()
	})
}

// A call that was cancelled before its first request has moved nothing, and says so.
func TestN38CancelledBefore(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		down := w.downloadOptions(w.remote(1000))
		for _, verify := range []bool{false, true} {
			down.Verify = verify
			require.ErrorIs(t, transfer.Download(ctx, down), context.Canceled)
		}
		w.requireOnly()
		require.ErrorIs(t, transfer.Upload(ctx, w.uploadOptions(w.local(100))), context.Canceled)
		assert.Empty(t, w.reg.Requests())
	})
}

// N38: what ends because the caller has cancelled is not tried again.
func TestN38CancelledAttemptIsNotTriedAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", "", "**stall(500)")
		ctx, cancel := withCancelAfter(t, 5*time.Second)
		defer cancel()
		var log logBook
		opts := w.downloadOptions(b)
		opts.Logger = log.logger()
		require.ErrorIs(t, transfer.Download(ctx, opts), errOurs)
		w.reg.Wait()
		assert.NotContains(t, log.String(), "trying again")
		assert.Equal(t, 1, w.gets(b))
	})
}

func TestN38UploadCancelled(t *testing.T) {
	cases := map[string]time.Duration{
		"during HEAD": 500 * time.Millisecond, "during POST": 1500 * time.Millisecond,
		"during PUT": 4 * time.Second, "while it is answered": 9 * time.Second,
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, after time.Duration) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("HEAD", "", "delay(1s)")
		w.reg.Fault("POST", "", "delay(1s)")
		w.reg.Fault("PUT", "", "slow(1M)+swallow+stallheaders")
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		ctx, cancel := withCancelAfter(t, after)
		defer cancel()
		begun := time.Now()
		err := transfer.Upload(ctx, opts)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, errOurs)
		assert.LessOrEqual(t, time.Since(begun), after+time.Second)
		w.progress.check(t, err)
		w.reg.Wait()
		assert.Zero(t, w.reg.Sessions(), "the session is deleted")
		assert.Zero(t, w.reg.Count("PUT", "/manifests/"))
	})
}

func TestN38UploadDeadline(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("", "", "**503")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		begun := time.Now()
		err := transfer.Upload(ctx, w.uploadOptions(w.local(10)))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 20*time.Second, time.Since(begun))
	})
}

// What other blobs were doing when one failed ends too, and leaves nothing.
func TestFailureEndsTheOthers(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions()
		opts.Concurrency = 8 // all begin at once, as of small blobs no more do
		for i := range opts.Concurrency {
			opts.Blobs = append(opts.Blobs, w.remote(1000+i))
		}
		w.reg.Fault("GET", opts.Blobs[3].Digest, "delay(3s)+403")
		w.reg.Fault("GET", "", "**stall(100)")
		took, err := w.timed(opts)
		w.requireStatus(err, opts.Blobs[3], http.StatusForbidden)
		assert.Equal(t, 3*time.Second, took)
		assert.Zero(t, w.reg.InFlight())
		w.requireOnly()
		assert.NotContains(t, err.Error(), fmt.Sprint(context.Canceled),
			"the first error, and not what came of it")
	})
}

// Nothing that a call has started runs when it has returned.
func TestNothingRunsWhenACallHasReturned(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	opts := w.downloadOptions(w.local(10))
	const report = "progressTracker).report("
	run := runtime.FuncForPC(reflect.ValueOf((*watchdog.Watchdog).Run).Pointer()).Name() + "("
	stacks := make([]byte, 1<<20)
	running := func() string { return string(stacks[:runtime.Stack(stacks, true)]) }
	opts.Progress = func(int64, int64) { assert.Contains(t, running(), report) }
	for range 100 {
		require.NoError(t, transfer.Download(t.Context(), opts))
		left := running()
		require.NotContains(t, left, run)
		require.NotContains(t, left, report)
	}
}

// TestS19NothingMeasuresWithTheWallClock finds what would make a duration depend on a clock that is set
// while it is measured: times that lose their monotonic reading.
func TestS19NothingMeasuresWithTheWallClock(t *testing.T) {
	wall := map[string]bool{
		"Unix": true, "UnixNano": true, "UnixMilli": true, "UnixMicro": true,
		"Round": true, "UTC": true, "Local": true, "In": true,
	}
	files := codeOfTheModule(t)
	assert.Greater(t, len(files), 20, "files that were looked at")
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			call, _ := n.(*ast.CallExpr)
			if call == nil {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && wall[f.Sel.Name] {
				assert.Fail(t, "a time without its monotonic reading", "%s: %s", name, f.Sel.Name)
			}
			return true
		})
	}
}

// codeOfTheModule returns the names of the files that callers of the package run.
func codeOfTheModule(t *testing.T) (files []string) {
	t.Helper()
	others := map[string]bool{
		"cmd": true, "model": true, "internal/bench": true, "internal/e2e": true, "internal/storm": true,
	}
	err := filepath.WalkDir(".", func(name string, e fs.DirEntry, err error) error {
		name = filepath.ToSlash(name)
		switch {
		case err != nil:
			return err
		case e.IsDir() && name != "." &&
			(others[name] || strings.Contains(name, "test") || strings.HasPrefix(name, ".")):
			return fs.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			files = append(files, name)
		}
		return nil
	})
	require.NoError(t, err)
	return files
}
