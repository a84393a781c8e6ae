package transfer_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
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

func TestRedirectWithinTheRegistryKeepsTheToken(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest,
			"302(location: ?moved=1)->301(location: ?moved=2)->"+
				"303(location: ?moved=3)->308(location: ?moved=4)")
		require.NoError(t, w.download(w.withToken(w.downloadOptions(b))))
		assert.Equal(t, 5, w.gets(b))
		assert.Equal(t, []string{"Bearer secret"}, w.reg.Tokens())
	})
}

// N30 and N31: a CDN is another origin, and so is another port, or a name below the registry's.
func TestN30N31Redirect(t *testing.T) {
	cases := named("cdn.test", "registry.test:5000", "sub.registry.test")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, host string) {
		w, cdn := redirecting(t, mode, host)
		w.client.Jar = jar{}
		small := []transfer.Blob{w.remote(10), w.remote(1000), w.remote(mebibyte)}
		size := int64(10 + 1000 + mebibyte)
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

// N40: object stores refuse an expired signed URL with many statuses. The registry is asked again,
// for a URL that was remembered and for one that is refused at once, as by a cache that hands out old
// ones.
func TestN40RefusedSignedURL(t *testing.T) {
	for name, script := range map[string]string{
		"remembered, as S3 says it": "eof(300K)->s3(400 ExpiredToken)", "remembered": "eof(300K)->405",
		"on its first use": "400", "on its first use, as S3 says it": "s3(400 ExpiredToken)",
		"each time": "400->eof(300K)->410->eof(300K)->400",
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w, cdn := redirecting(t, mode, "cdn.test")
				b := w.remote(mebibyte)
				cdn.Fault("GET", b.Digest, script)
				require.NoError(t, w.download(w.withToken(w.downloadOptions(b))))
				cdn.Wait()
				assert.Less(t, cdn.BytesSent(), b.Size+2000)
				assert.LessOrEqual(t, w.gets(b), 4)
			})
		})
	}
}

// N40: a URL that is refused whenever it is made anew ends the call soon.
func TestN40SignedURLRefusedForEver(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(1000)
		cdn.Fault("GET", b.Digest, "**s3(400 ExpiredToken)")
		took, err := w.timed(w.withToken(w.downloadOptions(b)))
		w.requireStatus(err, b, http.StatusBadRequest)
		assert.NotContains(t, err.Error(), "token and what it may do",
			"the registry's token has nothing to do with it")
		assert.Equal(t, 2, cdn.Count("GET", b.Digest))
		assert.Less(t, took, time.Second)
	})
}

func TestCDNThatFails(t *testing.T) {
	cases := named("2*503", "reset(300K)", "eof(300K)->503", "stall(300K)", "429(retry-after: 5)")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(mebibyte)
		cdn.Fault("GET", b.Digest, script)
		require.NoError(t, w.download(w.withToken(w.downloadOptions(b))))
		requireBare(t, cdn.Requests())
		assert.Equal(t, []string{"Bearer secret"}, w.reg.Tokens())
	})
}

// firstElsewhere returns a redirect of the first request to one place and of all others to another.
func firstElsewhere(first, others string) func(*http.Request) string {
	var asked atomic.Int64
	return func(*http.Request) string {
		if asked.Add(1) == 1 {
			return first
		}
		return others
	}
}

// N41: one of several hosts of an object store is dead. Its URL is not remembered.
func TestN41DeadHostOfTheObjectStore(t *testing.T) {
	cases := named("eof(300K)->**503", "eof(300K)->**reset", "eof(300K)->**521", "eof(300K)->**hangup")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w, one := redirecting(t, mode, "one.test")
		two := w.reg.CDN()
		other := w.net.Serve("two.test", two, mode).URL
		b := w.remote(mebibyte)
		one.Fault("GET", b.Digest, script)
		first := w.net.Serve("again.test", one, mode).URL
		w.reg.Configure(func(o *registrytest.Options) { o.Redirect = firstElsewhere(first, other) })
		took, err := w.timed(w.withToken(w.downloadOptions(b)))
		require.NoError(t, err)
		assert.LessOrEqual(t, one.Count("GET", b.Digest), 4,
			"net/http sends a request again where a used connection breaks")
		assert.Less(t, took, 3*time.Second)
		assert.Equal(t, 2, w.gets(b))
	})
}

// forgetful is a transport that cannot look up a host from one request on, for so many requests.
type forgetful struct {
	http.RoundTripper
	mu       sync.Mutex
	host     string
	from, to int // requests to the host
	count    int
}

func (f *forgetful) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Hostname() == f.host {
		f.mu.Lock()
		f.count++
		lost := f.count >= f.from && f.count < f.to
		f.mu.Unlock()
		if lost {
			unknown := &net.DNSError{Err: "no such host", Name: f.host, IsNotFound: true}
			return nil, &net.OpError{Op: "dial", Err: unknown}
		}
	}
	return f.RoundTripper.RoundTrip(r)
}

// N42: a host that has answered in this call exists, whatever DNS says.
func TestN42NoSuchHostThatHasAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		host     string
		from, to int
		fails    bool
	}{
		"the registry":         {"registry.test", 2, 4, false},
		"the object store":     {"cdn.test", 2, 5, false},
		"N32 never heard of":   {"registry.test", 1, 9, true},
		"N32 nor of the store": {"cdn.test", 1, 9, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w, cdn := redirecting(t, mode, "cdn.test")
				b, other := w.remote(mebibyte), w.remote(1000)
				cdn.Fault("GET", b.Digest, "eof(300K)")
				opts := w.withToken(w.downloadOptions(b, other))
				opts.Concurrency = 1
				client := *opts.Client
				client.Transport = &forgetful{RoundTripper: client.Transport, host: c.host, from: c.from,
					to: c.to}
				opts.Client = &client
				err := w.download(opts)
				if c.fails {
					var dns *net.DNSError
					require.ErrorAs(t, err, &dns)
					require.NotErrorIs(t, err, transfer.ErrRetriesExhausted)
					return
				}
				require.NoError(t, err)
			})
		})
	}
}

// N8: a registry that is known to redirect stalls when it is asked where a blob is.
func TestN8StallWhileItIsAskedWhereABlobIs(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		first, second := w.remote(2000), w.remote(1000)
		w.reg.Fault("GET", second.Digest, "stallheaders")
		opts := w.withToken(w.downloadOptions(first, second))
		opts.Concurrency = 1
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Equal(t, 2, w.gets(second))
		assert.Equal(t, 1, cdn.Count("GET", second.Digest))
		assert.InDelta(t, 10, took.Seconds(), 2)
	})
}

// firstSession is where a registry takes the first upload that it opens.
const firstSession = "/v2/" + repository + "/blobs/uploads/session-1?_state=0"

func TestU1NoSessionIsOpened(t *testing.T) {
	cases := named("**202", "**200", "**204", "**201", "**page+header(location: /front)",
		"**201+header(docker-content-digest: "+digest.FromString("x").String()+")")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("POST", "", script)
		b := w.local(3 << 20)
		begun := time.Now()
		err := w.upload(w.uploadOptions(b))
		if strings.HasPrefix(script, "**201+") {
			require.ErrorIs(t, err, transfer.ErrDigestMismatch)
		} else {
			require.ErrorIs(t, err, transfer.ErrProtocol)
		}
		requireBlobError(t, err, b, "upload")
		assert.Equal(t, 1, w.reg.Count("POST", ""))
		assert.Less(t, time.Since(begun), noBackoff)
		w.requireNotUploaded(b)
	})
}

func TestU2Location(t *testing.T) {
	cases := map[string]string{
		"absolute":       "{registry}" + firstSession,
		"path":           firstSession,
		"relative":       "session-1?_state=0",
		"dots":           "../uploads/./session-1?_state=0",
		"odd query":      "session-1?_state=0&&x=%41+%2b&y;z=a",
		"fragment":       "session-1?_state=0#part",
		"query in place": "session-1?a=?&_state=0",
		"default port":   "{registry}{port}" + firstSession,
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, location string) {
		w := newWorld(t, mode, registrytest.Options{
			Token: "secret", Sessions: registrytest.Sessions{StrictState: true},
		})
		where := strings.NewReplacer("{registry}", w.server.URL, "{port}", w.port()).Replace(location)
		w.reg.Fault("POST", "", "header(-location; location: "+where+")")
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Token = "secret"
		require.NoError(t, w.upload(opts), "the token stays with it")
		query, _, _ := strings.Cut(where[strings.Index(where, "?")+1:], "#")
		last := w.reg.Requests()[len(w.reg.Requests())-1]
		assert.Equal(t, query+"&digest="+url.QueryEscape(opts.Blobs[0].Digest), last.RawQuery,
			"the state is kept as it is")
	})
}

// U2: a Location is relative to the request that it answers, not to where the upload began.
func TestU2LocationIsRelativeToTheRequest(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("POST", "", "**202(location: /deep/er/first)")
		w.reg.Fault("PUT", "first", "**413")
		w.reg.Fault("PATCH", "", "**read+202(location: second?x=y)")
		w.reg.Fault("PUT", "second", "**201")
		w.reg.Fault("", "/deep/", "**404")
		require.NoError(t, transfer.Upload(t.Context(), w.uploadOptions(w.local(3<<20))))
		requests := w.reg.Requests()
		assert.NotZero(t, w.reg.Count("PATCH", "/deep/er/first"))
		last := requests[len(requests)-1]
		assert.Equal(t, "PUT /deep/er/second", last.Method+" "+last.Path)
	})
}

func TestU3LocationOnAnotherHost(t *testing.T) {
	cases := map[string]string{
		"another host": "uploads.test", "another port": "registry.test:5000",
		"a host below": "cdn.registry.test",
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, host string) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve(host, cdn, mode)
		w.reg.Fault("POST", "", "header(-location; location: "+
			elsewhere.URL+firstSession+")")
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Token, opts.Client = "secret", &http.Client{Transport: w.client.Transport, Jar: jar{}}
		require.NoError(t, w.upload(opts))
		requests := cdn.Requests()
		require.Len(t, requests, 1)
		for _, name := range []string{"Authorization", "Cookie", "Referer"} {
			assert.Empty(t, requests[0].Header.Values(name), name)
		}
		assert.Equal(t, opts.Blobs[0].Size, requests[0].BodyBytes)
		assert.Zero(t, w.reg.Count("PUT", ""))
	})
}

func TestU3OnceLeftTheTokenStaysOff(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		w.reg.Fault("POST", "", "header(-location; location: "+elsewhere.URL+firstSession+")")
		cdn.Fault("PUT", "", "redirect("+w.server.URL+firstSession+")")
		var tokens issuer
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Token, opts.GetToken = "secret", tokens.getToken
		requireStatus(t, w.upload(opts), http.StatusUnauthorized)
		assert.Empty(t, tokens.calls())
		assert.Empty(t, cdn.Tokens())
		for _, r := range w.reg.Requests() {
			assert.Equal(t, r.Method != "PUT", r.Header.Get("Authorization") == "Bearer secret", "%s %s",
				r.Method,
				r.Path)
		}
	})
}

func TestU3FromHTTPSToHTTP(t *testing.T) {
	cases := named("Location", "redirect")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, how string) {
		if mode == registrytest.H1 {
			return // it is http already
		}
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		plain := w.net.Serve("registry.test", cdn, registrytest.H1)
		session := plain.URL + firstSession
		if how == "Location" {
			w.reg.Fault("POST", "", "header(-location; location: "+session+")")
		} else {
			w.reg.Fault("PUT", "", "redirect("+session+")")
		}
		begun := time.Now()
		require.ErrorIs(t, w.upload(w.uploadOptions(w.local(3<<20))), transfer.ErrRedirectRefused)
		assert.Empty(t, cdn.Requests())
		assert.Equal(t, 1, w.reg.Count("POST", ""))
		assert.Less(t, time.Since(begun), noBackoff)
	})
}

// refusedPlaces are where no upload goes.
func refusedPlaces() map[string]string {
	return map[string]string{
		"U4 file":              "file:///etc/passwd",
		"U4 ftp":               "ftp://uploads.test/x",
		"U4 user":              "https://user:geheim@uploads.test/x",
		"U4 no host":           "https:///x",
		"U4 port alone":        "https://:443/x",
		"U4 opaque":            "https:uploads.test",
		"U4 garbage":           "https://[::1",
		"U4 bad escape":        "/%zz?sig=geheim",
		"U5 loopback":          "https://127.0.0.1:5000/x",
		"U5 loopback 2":        "https://127.9.9.9/x",
		"U5 loopback v6":       "https://[::1]/x",
		"U5 mapped":            "https://[::ffff:127.0.0.1]/x",
		"U5 localhost":         "https://localhost/x",
		"U5 localhost dot":     "https://LocalHost./x",
		"U5 below localhost":   "https://x.localhost/x",
		"U5 unspecified":       "https://0.0.0.0/x",
		"U5 metadata":          "https://169.254.169.254/latest/meta-data/",
		"U5 link-local":        "https://[fe80::1]/x",
		"U5 metadata v6":       "https://[fe80::a9fe:a9fe]/x",
		"U5 mapped link-local": "https://[::ffff:169.254.169.254]/x",
	}
}

func TestU4AndU5PlacesThatAreRefused(t *testing.T) {
	for name, place := range refusedPlaces() {
		for _, how := range []string{"Location", "redirect"} {
			t.Run(name+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1TLS, registrytest.Options{})
					w.server = w.net.Serve(publicAddress, w.reg, registrytest.H1TLS)
					if how == "Location" {
						w.reg.Fault("POST", "", "**header(-location; location: "+place+")")
					} else {
						w.reg.Fault("PUT", "", "**redirect("+place+")")
					}
					begun := time.Now()
					b := w.local(3 << 20)
					err := w.upload(w.uploadOptions(b))
					require.ErrorIs(t, err, transfer.ErrRedirectRefused)
					requireBlobError(t, err, b, "upload")
					assert.NotContains(t, err.Error(), "geheim")
					assert.Equal(t, 1, w.reg.Count("POST", ""))
					assert.LessOrEqual(t, w.reg.Count("PUT", ""), 1)
					assert.Less(t, time.Since(begun), noBackoff)
				})
			})
		}
	}
}

func TestU5PlacesThatAreNot(t *testing.T) {
	type test struct{ registry, store string }
	cases := map[string]test{
		"private from public":     {publicAddress, "10.1.2.3"},
		"private from private":    {"192.168.1.2", "172.16.3.4:9000"},
		"loopback from loopback":  {"127.0.0.1:5000", "127.0.0.1:9000"},
		"localhost from loopback": {"127.0.0.1:5000", "localhost:9000"},
		"link from link":          {"169.254.1.1", "169.254.1.2"},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		w.server = w.net.Serve(c.registry, w.reg, mode)
		w.redirectUploads(w.net.Serve(c.store, cdn, mode).URL)
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
		assert.Equal(t, 1, cdn.Count("PUT", ""))
	})
}

// wireTap counts the bytes that are sent to a host, TLS and headers and all.
func (w *world) wireTap(addr string) (sent *atomic.Int64) {
	sent = new(atomic.Int64)
	transport := w.client.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
		c, err := w.net.DialContext(ctx, network, to)
		if err == nil && strings.HasPrefix(to, addr) {
			c = tapped{c, sent}
		}
		return c, err
	}
	return sent
}

type tapped struct {
	net.Conn
	sent *atomic.Int64
}

func (c tapped) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

func TestU10BodiesThatAreRedirected(t *testing.T) {
	cases := map[string]registrytest.Options{
		"PUT":          {},
		"PUT 308":      {Redirects: registrytest.Redirects{RedirectStatus: 308}},
		"PUT 302":      {Redirects: registrytest.Redirects{RedirectStatus: 302}},
		"PATCH":        {MaxBody: 1 << 20},
		"POST and PUT": {SingleShot: true},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, opts registrytest.Options) {
		w := newWorld(t, mode, opts)
		cdn := w.reg.CDN()
		cdn.RefuseAuth()
		w.reg.Configure(func(o *registrytest.Options) {
			o.Token, o.RedirectUploads = "secret", registrytest.To(w.net.Serve("cdn.test", cdn, mode).URL)
		})
		sent := w.wireTap("registry.test")
		up := w.uploadOptions(w.local(3<<20), w.local(2<<20))
		up.Token, up.Concurrency = "secret", 1
		require.NoError(t, w.upload(up))
		cdn.Wait()
		assert.EqualValues(t, 5<<20, cdn.BytesReceived(), "each byte is sent there once")
		assert.Zero(t, w.reg.BytesReceived())
		assert.Less(t, sent.Load(), int64(64<<10), "bytes on the wire to the registry")
		assert.Empty(t, cdn.Tokens())
		for _, r := range cdn.Requests() {
			assert.Empty(t, r.Header.Values("Referer"))
		}
	})
}

// afterTwo returns a redirect for all requests but the first two.
func afterTwo(elsewhere string) func(*http.Request) string {
	var asked atomic.Int64
	return func(*http.Request) string {
		if asked.Add(1) <= 2 {
			return ""
		}
		return elsewhere
	}
}

// A registry that has taken some bodies itself may send others elsewhere.
func TestU10LargeBodyIsAskedForEachTime(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("cdn.test", cdn, mode).URL
		w.reg.Configure(func(o *registrytest.Options) { o.RedirectUploads = afterTwo(elsewhere) })
		w.reg.Fault("PUT", "", "**slow(1M)")
		sent := w.wireTap("registry.test")
		opts := w.uploadOptions(w.local(3<<20), w.local(3<<20), w.local(3<<20))
		opts.BodyConcurrency = 1
		require.NoError(t, w.upload(opts))
		cdn.Wait()
		assert.EqualValues(t, 3<<20, cdn.BytesReceived())
		assert.Less(t, sent.Load(), int64(6<<20+64<<10), "bytes on the wire to the registry")
	})
}

// A caller's transport that would send a body at once, as one without ExpectContinueTimeout does, is
// not used so.
func TestU10HastyTransport(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		w.redirectUploads(w.net.Serve("cdn.test", cdn, mode).URL)
		transport := w.net.Transport()
		w.client = &http.Client{Transport: transport}
		b := w.local(3 << 20)
		require.NoError(t, w.upload(w.uploadOptions(b)))
		cdn.Wait()
		assert.Zero(t, w.reg.BytesReceived())
		assert.Equal(t, b.Size, cdn.BytesReceived())
		assert.Zero(t, transport.ExpectContinueTimeout, "the caller's transport is not changed")
	})
}

func TestU10SeeOther(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", "**303(location: /elsewhere)")
		b := w.local(3 << 20)
		require.ErrorIs(t, w.upload(w.uploadOptions(b)), transfer.ErrRedirectRefused)
		w.requireNotUploaded(b)
	})
}

func TestN27UploadLoopsOfRedirects(t *testing.T) {
	cases := named("HEAD", "POST", "PUT")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, method string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault(method, "", "**redirect(?again)")
		begun := time.Now()
		require.ErrorIs(t, w.upload(w.uploadOptions(w.local(3<<20))), transfer.ErrRedirectRefused)
		assert.Equal(t, 11, w.reg.Count(method, ""))
		assert.Less(t, time.Since(begun), noBackoff)
		assert.Zero(t, w.reg.BytesReceived())
	})
}

// hasty serves a registry that reads the body of each PUT, waits, and then sends it to the same URL with
// "&again", where it is let through.
func hasty(w *world, mode registrytest.Mode, wait time.Duration) (url string) {
	return w.net.Serve("hasty.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || strings.Contains(r.URL.RawQuery, "again") {
			w.reg.ServeHTTP(rw, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(wait)
		http.Redirect(rw, r, r.URL.String()+"&again", http.StatusTemporaryRedirect)
	}), mode).URL
}

// A registry that reads a body before it sends it elsewhere.
func TestBodiesThatAreSentAgainAreBounded(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "again", "**slow(1M)")
		opts := w.uploadOptions()
		for i := range 6 {
			opts.Blobs = append(opts.Blobs, w.local(3<<20+i))
		}
		opts.BaseURL, opts.BodyConcurrency = hasty(w, mode, 2*time.Second), 1
		require.NoError(t, w.upload(opts))
		assert.LessOrEqual(t, w.reg.MaxInFlight(), 2, "one, and what the link still has of the one before")
	})
}

func TestN7StallOfABodyThatIsSentAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(40 << 20) // for whose digest a registry may take 2.5 s
		w.reg.Fault("PUT", "again", "stallbody(1M)")
		opts := w.uploadOptions(b)
		opts.BaseURL, opts.StallTimeout = hasty(w, mode, 0), 2*time.Second
		begun := time.Now()
		require.NoError(t, w.upload(opts))
		assert.Less(t, time.Since(begun), 4*time.Second)
	})
}

// Some old proxies answer 417 to whatever says that it waits (RFC 9110 section 15.5.18).
func TestServersThatKnowNoExpectation(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		refuse := func(rw http.ResponseWriter, r *http.Request) bool {
			waits := r.Header.Get("Expect") != ""
			if waits {
				rw.WriteHeader(http.StatusExpectationFailed)
			}
			return waits
		}
		w := newWorld(t, mode, registrytest.Options{Before: refuse})
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20), w.local(2<<20), w.local(100))))
	})
}

func TestEmptyBlobExpectsNothing(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		require.NoError(t, w.upload(w.uploadOptions(w.local(0))))
		for _, r := range w.reg.Requests() {
			assert.Empty(t, r.Header.Values("Expect"))
		}
	})
}
