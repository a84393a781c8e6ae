package transfer_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
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
				assert.Greater(t, took, 500*time.Millisecond, "half of 0.2, 0.4 and 0.8 s at least")
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
	for _, code := range []int{400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 418, 451, 501, 505, 204, 304} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, fmt.Sprintf("**%d", code))
				took, err := w.timed(w.downloadOptions(b))
				status := w.requireStatus(err, b, code)
				if code >= 400 {
					assert.Equal(t, []transfer.RegistryError{{Code: "UNKNOWN", Message: "injected fault"}}, status.Errors)
				}
				assert.Equal(t, 1, w.gets(b))
				assert.Less(t, took, noBackoff)
				w.requireNothing(b)
			})
		})
	}
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
				assert.LessOrEqual(t, w.gets(b), 12+int(timeout/(15*time.Second)), "at most 30 s lie between tries, and not much less")
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
				var mu sync.Mutex
				var at []time.Duration
				start := time.Now()
				w := newWorld(t, mode, registrytest.Options{})
				opts := w.downloadOptions()
				for i := range 20 {
					opts.Blobs = append(opts.Blobs, w.remote(1000+i))
				}
				w.reg.Configure(func(o *registrytest.Options) {
					o.Before = func(http.ResponseWriter, *http.Request) bool {
						mu.Lock()
						defer mu.Unlock()
						at = append(at, time.Since(start))
						return false
					}
				})
				w.reg.Fault("GET", "", "2*delay(1s)->429(retry-after: 60)->**delay(1s)")
				opts.Concurrency, opts.BodyConcurrency = c.concurrency, c.bodies
				require.NoError(t, w.download(opts))
				assert.Len(t, at, 20)
				for _, d := range at {
					assert.False(t, d > 3*time.Second && d < time.Minute, "a request after %v", d)
				}
			})
		})
	}
}

// redirecting is a world whose registry sends downloads to a CDN.
func redirecting(t *testing.T, mode registrytest.Mode, host string) (*world, *registrytest.CDN) {
	w := newWorld(t, mode, registrytest.Options{Token: "secret"})
	cdn := w.reg.CDN()
	cdn.RefuseAuth()
	server := w.net.Serve(host, cdn, mode)
	w.reg.Configure(func(o *registrytest.Options) { o.Redirect = registrytest.To(server.URL) })
	return w, cdn
}

func (w *world) withToken(opts transfer.DownloadOptions) transfer.DownloadOptions {
	opts.Token = "secret"
	return opts
}

// requireBare checks that no request brought credentials (I4).
func requireBare(t *testing.T, requests []registrytest.Request) {
	t.Helper()
	for _, r := range requests {
		for _, name := range []string{"Authorization", "Cookie", "Referer"} {
			assert.Empty(t, r.Header.Values(name), "%s of %s %s", name, r.Host, r.Path)
		}
	}
}

// N30 and N31: a CDN is another origin, and so is another port, or a name below the registry's.
func TestN30N31Redirect(t *testing.T) {
	for _, host := range []string{"cdn.test", "registry.test:5000", "sub.registry.test"} {
		t.Run(host, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w, cdn := redirecting(t, mode, host)
				w.client.Jar = eagerJar{}
				small, size := []transfer.Blob{w.remote(10), w.remote(1000), w.remote(mebibyte)}, int64(10+1000+mebibyte)
				blobs := small
				if host == "cdn.test" {
					blobs = append(blobs, w.remoteLarge())
					size += largeSize
				}
				require.NoError(t, w.download(w.withToken(w.downloadOptions(blobs...))))
				cdn.Wait()
				requireBare(t, cdn.Requests())
				for _, r := range w.reg.Requests() {
					assert.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
				}
				assert.Equal(t, size, cdn.BytesSent())
				for _, b := range blobs {
					assert.LessOrEqual(t, w.gets(b), 2, "the URL of a large one is used again")
				}
			})
		})
	}
}

// eagerJar has a cookie for everybody.
type eagerJar struct{}

func (eagerJar) SetCookies(*url.URL, []*http.Cookie) {}

func (eagerJar) Cookies(*url.URL) []*http.Cookie {
	return []*http.Cookie{{Name: "session", Value: "secret"}}
}

// Once the chain has left the registry it stays bare, even where it leads back.
func TestN30RedirectBack(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(1000)
		cdn.Fault("GET", "", "**redirect("+w.server.URL+"/back)")
		err := w.download(w.withToken(w.downloadOptions(b)))
		var status *transfer.StatusError
		require.ErrorAs(t, err, &status)
		assert.Equal(t, http.StatusUnauthorized, status.StatusCode)
		assert.Equal(t, 1, w.reg.Count("GET", "/back"))
		for _, r := range w.reg.Requests() {
			if r.Path == "/back" {
				requireBare(t, []registrytest.Request{r})
			}
		}
	})
}

func TestRedirectWithinTheRegistryKeepsTheToken(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "302(location: ?moved=1)->301(location: ?moved=2)->303(location: ?moved=3)->308(location: ?moved=4)")
		require.NoError(t, w.download(w.withToken(w.downloadOptions(b))))
		assert.Equal(t, 5, w.gets(b))
		assert.Equal(t, []string{"Bearer secret"}, w.reg.Tokens())
	})
}

func TestN29NoWayFromHTTPSToHTTP(t *testing.T) {
	for _, mode := range []registrytest.Mode{registrytest.H1TLS, registrytest.H2} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, mode, registrytest.Options{})
				cdn := w.reg.CDN()
				plain := w.net.Serve("cdn.test", cdn, registrytest.H1)
				w.reg.Configure(func(o *registrytest.Options) { o.Redirect = registrytest.To(plain.URL) })
				b := w.remote(1000)
				took, err := w.timed(w.downloadOptions(b))
				require.ErrorIs(t, err, transfer.ErrRedirectRefused)
				assert.Empty(t, cdn.Requests())
				assert.Equal(t, 1, w.gets(b))
				assert.Less(t, took, noBackoff)
				w.requireNothing(b)
			})
		})
	}
}

// N26: a signed URL has expired, when more of the blob is fetched or when its turn came late.
func TestN26ExpiredURL(t *testing.T) {
	for _, code := range []int{401, 403, 404, 410} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w, cdn := redirecting(t, mode, "cdn.test")
				b := w.remote(mebibyte)
				cdn.Fault("GET", b.Digest, fmt.Sprintf("eof(300K)->%d", code))
				require.NoError(t, w.download(w.withToken(w.downloadOptions(b))))
				cdn.Wait()
				assert.Equal(t, 3, cdn.Count("GET", b.Digest))
				assert.Equal(t, 2, w.gets(b), "asked where it is now")
				assert.Less(t, cdn.BytesSent(), b.Size+1000)
				requireBare(t, cdn.Requests())
			})
		})
	}
}

func TestN26ExpiredWhileWaitingForItsTurn(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		first, second, third := w.remote(3000), w.remote(2000), w.remote(1000)
		cdn.Fault("GET", third.Digest, "403")
		opts := w.withToken(w.downloadOptions(first, second, third))
		opts.Concurrency = 1 // from the second on, URLs are asked for ahead of time
		require.NoError(t, w.download(opts))
		assert.Equal(t, 2, cdn.Count("GET", third.Digest))
	})
}

// expiring has the registry sign URLs that no new request may use after so many seconds.
func (w *world) expiring(cdn *registrytest.CDN, mode registrytest.Mode, seconds int64) {
	scheme, _, _ := strings.Cut(w.server.URL, ":")
	w.reg.Configure(func(o *registrytest.Options) {
		o.Redirect = func(*http.Request) string { return fmt.Sprintf("%s://signed.test/%d", scheme, time.Now().Unix()) }
	})
	w.net.Serve("signed.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		signed, path, _ := strings.Cut(r.URL.Path[1:], "/")
		if at, _ := strconv.ParseInt(signed, 10, 64); time.Now().Unix() > at+seconds {
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		r.URL.Path = "/" + path
		cdn.ServeHTTP(rw, r)
	}), mode)
}

// N26: a signed URL has expired for all who fetch pieces of the blob.
func TestN26ExpiredForSeveral(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remoteLarge()
		w.expiring(cdn, mode, 2)
		cdn.Fault("GET", "", "**slow(1M)")
		opts := w.withToken(w.downloadOptions(b))
		opts.Concurrency = 2
		require.NoError(t, w.download(opts))
		assert.Greater(t, w.gets(b), 1)
		assert.LessOrEqual(t, w.gets(b), 7)
	})
}

// N26: bodies take so long that what waits for its turn expires each time it is asked for ahead of time.
func TestN26ExpiresWhileWaitingForItsTurn(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		w.expiring(cdn, mode, 20)
		cdn.Fault("GET", "", "**slow(20K)")
		opts := w.withToken(w.downloadOptions())
		for i := range 30 {
			opts.Blobs = append(opts.Blobs, w.remote(100_000+i))
		}
		opts.Concurrency, opts.BodyConcurrency = 4, 1
		require.NoError(t, w.download(opts))
		assert.LessOrEqual(t, w.reg.Count("GET", ""), 2*len(opts.Blobs))
	})
}

func TestN26RefusedForGood(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(mebibyte)
		cdn.Fault("GET", b.Digest, "eof(300K)->**403")
		_, err := w.timed(w.withToken(w.downloadOptions(b)))
		w.requireStatus(err, b, http.StatusForbidden)
		assert.LessOrEqual(t, cdn.Count("GET", b.Digest), 3)
		w.requireNothing(b)
	})
}

func TestCDNThatFails(t *testing.T) {
	for _, script := range []string{"2*503", "reset(300K)", "eof(300K)->503", "stall(300K)", "429(retry-after: 5)"} {
		t.Run(script, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w, cdn := redirecting(t, mode, "cdn.test")
				b := w.remote(mebibyte)
				cdn.Fault("GET", b.Digest, script)
				require.NoError(t, w.download(w.withToken(w.downloadOptions(b))))
				requireBare(t, cdn.Requests())
				assert.LessOrEqual(t, strings.Count(fmt.Sprint(w.reg.Tokens()), "Bearer"), 1)
			})
		})
	}
}
