package transfer_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// A 401 of the object store says nothing of our token, and must not have it refreshed.
func TestUnauthorizedElsewhere(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		w.redirectUploads(w.net.Serve("cdn.test", cdn, mode).URL)
		cdn.Fault("PUT", "", "**401(www-authenticate: Bearer realm=\"https://evil.test/token\")")
		var tokens issuer
		requireStatus(t, w.move(t.Context(), "PUT", tokens.getToken), http.StatusUnauthorized)
		assert.Empty(t, tokens.calls())
		assert.Empty(t, cdn.Tokens())
	})
}

// N26: a URL may expire again and again, as long as each one brings something.
func TestN26EachURLBringsSomething(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(mebibyte)
		cdn.Fault("GET", b.Digest, "eof(300K)->403->eof(300K)->403->eof(300K)->403")
		took, err := w.timed(w.withToken(w.downloadOptions(b)))
		require.NoError(t, err)
		assert.Equal(t, 4, w.gets(b), "asked where it is now, three times")
		assert.Less(t, took, 3*time.Second)
	})
}

// redirecting is a world whose registry sends downloads to a CDN.
func redirecting(t *testing.T, mode registrytest.Mode, host string) (*world, *registrytest.CDN) {
	w := newWorld(t, mode, registrytest.Options{Token: "secret"})
	cdn := w.reg.CDN()
	cdn.RefuseAuth()
	server := w.net.Serve(host, cdn, mode)
	w.redirectDownloads(server.URL)
	return w, cdn
}

func (w *world) withToken(opts transfer.DownloadOptions) transfer.DownloadOptions {
	opts.Token = "secret"
	return opts
}

// requireBare checks that no request brought credentials.
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
	cases := named("cdn.test", "registry.test:5000", "sub.registry.test")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, host string) {
		w, cdn := redirecting(t, mode, host)
		w.client.Jar = jar{}
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
}

// Once the chain has left the registry it stays bare, even where it leads back.
func TestN30RedirectBack(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(1000)
		cdn.Fault("GET", "", "**redirect("+w.server.URL+"/back)")
		requireStatus(t, w.download(w.withToken(w.downloadOptions(b))), http.StatusUnauthorized)
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
		w.reg.Fault("GET", b.Digest,
			"302(location: ?moved=1)->301(location: ?moved=2)->303(location: ?moved=3)->308(location: ?moved=4)")
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
				w.redirectDownloads(plain.URL)
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

// N26: a signed URL has expired for all who fetch pieces of the blob.
func TestN26ExpiredForSeveral(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remoteLarge()
		w.reg.Configure(func(o *registrytest.Options) { o.SignedFor = 2 * time.Second })
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
		w.reg.Configure(func(o *registrytest.Options) { o.SignedFor = 20 * time.Second })
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
		assert.LessOrEqual(t, cdn.Count("GET", b.Digest), 4, "with a new URL, and without a range (N49)")
		w.requirePartial(b)
	})
}

func TestCDNThatFails(t *testing.T) {
	cases := named("2*503", "reset(300K)", "eof(300K)->503", "stall(300K)", "429(retry-after: 5)")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(mebibyte)
		cdn.Fault("GET", b.Digest, script)
		require.NoError(t, w.download(w.withToken(w.downloadOptions(b))))
		requireBare(t, cdn.Requests())
		assert.Equal(t, []string{"Bearer secret"}, w.reg.Tokens())
	})
}
