package transfer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// bare answers with no more than net/http asks of a RoundTripper.
type bare int

func (b bare) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return &http.Response{StatusCode: int(b)}, nil
}

// jar gives a cookie to every host.
type jar struct{}

func (jar) SetCookies(*url.URL, []*http.Cookie) {}

func (jar) Cookies(*url.URL) []*http.Cookie {
	return []*http.Cookie{{Name: "session", Value: "crumbs"}}
}

func TestI20ClientIsCopied(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		w.redirectUploads(w.net.Serve("cdn.test", cdn, mode).URL)
		cdn.Fault("PUT", "", "slow(1M)")
		asked := 0
		client := &http.Client{
			Transport: w.client.Transport, Jar: jar{}, Timeout: time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { asked++; return nil },
		}
		before := *client
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Client = client
		require.NoError(t, w.upload(opts), "a Timeout shorter than the transfer is not ours")

		assert.Zero(t, asked, "redirects are followed by our rules")
		assert.Equal(t, before.Timeout, client.Timeout)
		assert.Equal(t, before.Jar, client.Jar)
		assert.Same(t, before.Transport, client.Transport)
		assert.NotNil(t, client.CheckRedirect)
		w.reg.Wait()
		cdn.Wait()
		for _, r := range w.reg.Requests() {
			assert.Equal(t, "session=crumbs", r.Header.Get("Cookie"), "%s %s", r.Method, r.Path)
		}
		require.Len(t, cdn.Requests(), 1)
		assert.Empty(t, cdn.Requests()[0].Header.Values("Cookie"), "cookies stay at the origin")
		assert.Empty(t, cdn.Requests()[0].Header.Values("Referer"))
	})
}

// I20: the caller's client is not changed; neither its Timeout nor its redirect policy is used.
func TestI20DownloadCopiesTheClient(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		w.client.Timeout = time.Second
		w.client.CheckRedirect = func(*http.Request, []*http.Request) error {
			t.Error("the caller's redirect policy was asked")
			return nil
		}
		b := w.remote(1000)
		cdn.Fault("GET", b.Digest, "slow(100)")
		before := *w.client
		took, err := w.timed(w.withToken(w.downloadOptions(b)))
		require.NoError(t, err)
		assert.Greater(t, took, 9*time.Second)
		assert.Equal(t, before.Timeout, w.client.Timeout)
		assert.Same(t, before.Transport, w.client.Transport)
		assert.NotNil(t, w.client.CheckRedirect)
		assert.Nil(t, w.client.Jar)
	})
}

func TestI20BareTransport(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	cases := map[int]error{307: transfer.ErrRedirectRefused, 202: transfer.ErrProtocol, 403: nil, 413: nil}
	for status, want := range cases {
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Client = &http.Client{Transport: bare(status)}
		err := w.upload(opts)
		require.Error(t, err)
		if want == nil {
			requireStatus(t, err, status)
		} else {
			require.ErrorIs(t, err, want)
		}
	}
}

func TestI20ClientWithoutTransport(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	b := transfer.Blob{Digest: reg.Put(repository, []byte("content")).String(), Size: 7}
	server := registrytest.Serve(t, reg, registrytest.H1)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	opts := transfer.DownloadOptions{
		Blobs: []transfer.Blob{b}, BaseURL: server.URL, DestDir: t.TempDir(), Repository: repository,
		Client: &http.Client{}, UserAgent: "own/1.0",
	}
	require.NoError(t, transfer.Download(t.Context(), opts))
	assert.Equal(t, "own/1.0", reg.Requests()[0].Header.Get("User-Agent"))
	entries, err := os.ReadDir(opts.DestDir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestDefaultClientAndNilTransport(t *testing.T) {
	for name, client := range map[string]*http.Client{"no client": nil, "no transport": {}} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			opts := w.uploadOptions(w.local(10), w.local(3<<20))
			opts.Client, opts.BaseURL = client, registrytest.Serve(t, w.reg, registrytest.H1).URL
			require.NoError(t, w.upload(opts))
			if client != nil {
				assert.Nil(t, client.Transport)
			}
		})
	}
}

// No connection of the package's own client outlives the call.
func TestDefaultClientLeavesNoConnection(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	changes := make(chan http.ConnState, 100)
	server := httptest.NewUnstartedServer(w.reg)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew || state == http.StateClosed {
			changes <- state
		}
	}
	server.Start()
	defer server.Close()
	opts := w.uploadOptions(w.local(10))
	opts.Client, opts.BaseURL = nil, server.URL
	require.NoError(t, w.upload(opts))
	late := time.After(10 * time.Second) // idle, it would stay for three times as long
	for open := 0; ; {
		select {
		case state := <-changes:
			open++
			if state == http.StateClosed {
				open -= 2
			}
		case <-late:
			require.Fail(t, "a connection is left")
		}
		if open == 0 && len(changes) == 0 {
			return
		}
	}
}

func TestUserAgent(t *testing.T) {
	for given, want := range map[string]string{"": "modeltransfer/1.0", "puller/2": "puller/2"} {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		opts := w.uploadOptions(w.local(10), w.local(3<<20))
		opts.UserAgent = given
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		require.NoError(t, w.upload(opts))
		for _, r := range w.reg.Requests() {
			assert.Equal(t, want, r.Header.Get("User-Agent"))
			assert.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
		}
	}
}

func TestI14HeaderBomb(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	b := transfer.Blob{Digest: reg.Put(repository, []byte("content")).String(), Size: 7}
	server := registrytest.Serve(t, reg, registrytest.H1)
	opts := transfer.DownloadOptions{
		Blobs: []transfer.Blob{b}, BaseURL: server.URL, DestDir: t.TempDir(), Repository: repository,
	}
	reg.Fault("GET", "", "**headerbomb(2M)")
	require.ErrorContains(t, transfer.Download(t.Context(), opts), "headers exceeded")
	assert.Equal(t, 1, reg.Count("GET", ""))
}

func TestI14HeaderBombAtTheCallersClient(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.client.Transport.(*http.Transport).MaxResponseHeaderBytes = 64 << 10
		w.reg.Fault("GET", "", "**headerbomb(300K)")
		took, err := w.timed(w.downloadOptions(b))
		require.Error(t, err)
		if mode == registrytest.H2 { // net/http does not tell it from a broken connection there
			assert.Equal(t, 6, w.gets(b))
		} else {
			assert.Equal(t, 1, w.gets(b))
			assert.Less(t, took, noBackoff)
		}
		w.requireNothing(b)
	})
}

func TestN32NoSuchHost(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		opts := w.downloadOptions(b)
		opts.BaseURL = strings.Replace(opts.BaseURL, "registry.test", "misspelt.test", 1)
		took, err := w.timed(opts)
		var dns *net.DNSError
		require.ErrorAs(t, err, &dns)
		assert.Equal(t, "misspelt.test", dns.Name)
		assert.Contains(t, err.Error(), "misspelt.test")
		assert.Equal(t, 1, w.net.Dials("misspelt.test"+w.port()))
		assert.Less(t, took, noBackoff)
		w.requireNothing(b)
	})
}

// N32 and N33: a registry that never answered is tried six times.
func TestN32N33NeverAnswered(t *testing.T) {
	cases := map[string]error{
		"N32 DNS out of order": &net.DNSError{Err: "server misbehaving", Name: "registry.test",
			IsTemporary: true},
		"N33 refused":     registrytest.Refused(),
		"N33 unreachable": os.NewSyscallError("connect", syscall.ENETUNREACH),
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, down error) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.net.Down("registry.test", down)
		took, err := w.timed(w.downloadOptions(b))
		w.requireExhausted(err, b, down)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		assert.Contains(t, err.Error(), "registry.test")
		assert.Equal(t, 6, w.dials())
		assert.Less(t, took, 10*time.Second)
		w.requireNothing(b)

		time.AfterFunc(2*time.Second, func() { w.net.Down("registry.test", nil) })
		require.NoError(t, w.download(w.downloadOptions(b)), "back in time")
	})
}

// N33: one that has answered is waited for.
func TestN33AnsweredBefore(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "connreset(300K)")
		w.observe(func() { w.net.Down("registry.test", registrytest.Refused()) })
		time.AfterFunc(4*time.Minute, func() { w.net.Down("registry.test", nil) })
		took, err := w.timed(w.downloadOptions(b))
		require.NoError(t, err)
		assert.Greater(t, took, 4*time.Minute)
	})
}

// A mirror that answers says nothing of the registry.
func TestN33OnlyAMirrorAnswered(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.remote(1000))
		opts.Mirrors = []string{w.server.URL}
		opts.BaseURL = strings.Replace(w.server.URL, "registry.test", "down.test", 1)
		w.net.Down("down.test", registrytest.Refused())
		w.reg.Fault("GET", "", "**404")
		took, err := w.timed(opts)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		assert.Less(t, took, 10*time.Second)
	})
}

func TestN32AndN33UploadNoConnection(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.net.Down("registry.test", registrytest.Refused())
		err := w.upload(w.uploadOptions(w.local(3 << 20)))
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
		assert.Equal(t, 6, w.dials())

		opts := w.uploadOptions(w.local(100))
		opts.BaseURL = strings.Replace(opts.BaseURL, "registry", "unknown", 1)
		begun := time.Now()
		var dns *net.DNSError
		require.ErrorAs(t, w.upload(opts), &dns)
		assert.Equal(t, "unknown.test", dns.Name)
		assert.Zero(t, time.Since(begun))
	})
}

func TestN34Certificates(t *testing.T) {
	for name, spoil := range map[string]func(*http.Transport){
		"unknown authority": func(tr *http.Transport) {
			tr.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		},
		"expired": func(tr *http.Transport) {
			tr.TLSClientConfig.Time = func() time.Time { return time.Now().AddDate(200, 0, 0) }
		},
		"another host": func(tr *http.Transport) { tr.TLSClientConfig.ServerName = "other.test" },
	} {
		for _, mode := range []registrytest.Mode{registrytest.H1TLS, registrytest.H2} {
			t.Run(name+" "+mode.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, mode, registrytest.Options{})
					b := w.remote(1000)
					spoil(w.client.Transport.(*http.Transport))
					took, err := w.timed(w.downloadOptions(b))
					var cert *tls.CertificateVerificationError
					require.ErrorAs(t, err, &cert)
					assert.Equal(t, 1, w.dials())
					assert.Less(t, took, noBackoff)
					assert.Empty(t, w.reg.Requests())
					w.requireNothing(b)
				})
			})
		}
	}
}

func TestN34DefaultClient(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	dg := reg.Put(repository, []byte("content"))
	server := registrytest.Serve(t, reg, registrytest.H1TLS)
	err := transfer.Download(t.Context(), transfer.DownloadOptions{
		Blobs: []transfer.Blob{{Digest: dg.String(), Size: 7}}, BaseURL: server.URL, DestDir: t.TempDir(),
		Repository: repository,
	})
	var cert *tls.CertificateVerificationError
	require.ErrorAs(t, err, &cert)
	var blob *transfer.BlobError
	require.ErrorAs(t, err, &blob)
	assert.Equal(t, 1, blob.Attempts)
	assert.Empty(t, reg.Requests())
}

// brokenPipe fails the first write of a PUT, as a connection does that the other side has closed while
// it was idle.
type brokenPipe struct {
	net.Conn
	broken *atomic.Bool
}

func (c brokenPipe) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("PUT ")) && !c.broken.Swap(true) {
		_ = c.Close()
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
	}
	return c.Conn.Write(p)
}

// N37: a connection that the registry closed while it was idle costs no wait.
func TestN37IdleConnectionIsClosed(t *testing.T) {
	for _, mode := range []registrytest.Mode{registrytest.H1, registrytest.H1TLS} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, mode, registrytest.Options{})
				first, second := w.remote(2000), w.remote(1000)
				w.reg.Fault("GET", second.Digest, "hangup")
				opts := w.downloadOptions(first, second)
				opts.Concurrency = 1
				took, err := w.timed(opts)
				require.NoError(t, err)
				assert.Less(t, took, noBackoff)
				assert.Equal(t, 2, w.gets(second))
			})
		})
	}
}

// N37: a body whose connection was closed while it was idle is sent over another, without a wait.
func TestN37BodyIsReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		var broken atomic.Bool
		transport := w.client.Transport.(*http.Transport)
		transport.DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
			c, err := w.net.DialContext(ctx, network, to)
			return brokenPipe{c, &broken}, err
		}
		begun := time.Now()
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
		assert.True(t, broken.Load())
		assert.Less(t, time.Since(begun), noBackoff)
		assert.Equal(t, 1, w.reg.Count("POST", "/uploads/"))
	})
}

// N39: hints without end are no progress.
func TestN39FloodOfHints(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "hinting(1s)")
		took, err := w.timed(w.downloadOptions(b))
		require.NoError(t, err)
		assert.Equal(t, 2, w.gets(b))
		assert.InDelta(t, 10, took.Seconds(), 2)
	})
}

// A stream whose bytes have all come is not reset, though its end comes later: servers count such resets.
func TestN36StreamsAreNotReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H2, registrytest.Options{})
		large, small := w.remoteLarge(), w.remote(1000)
		var streams, resets atomic.Int32
		late := func(rw http.ResponseWriter, r *http.Request) {
			data := w.content[digest.Digest(path.Base(r.URL.Path))]
			http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(data))
			assert.NoError(t, http.NewResponseController(rw).Flush())
			time.Sleep(10 * time.Millisecond)
			streams.Add(1)
			if r.Context().Err() != nil {
				resets.Add(1)
			}
		}
		opts := w.downloadOptions(large, small)
		opts.BaseURL = w.net.Serve("late.test", http.HandlerFunc(late), registrytest.H2).URL
		opts.Concurrency = 1 // nobody takes part of a piece from another
		require.NoError(t, w.download(opts))
		assert.Greater(t, streams.Load(), int32(2))
		assert.Zero(t, resets.Load())
	})
}

// Ranges whose length is told by Content-Range alone leave their connection to the next one too.
func TestN12ChunkedRangesKeepTheirConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "**chunked")
		var dials atomic.Int32
		transport := w.client.Transport.(*http.Transport)
		transport.DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
			dials.Add(1)
			return w.net.DialContext(ctx, network, to)
		}
		opts := w.downloadOptions(b)
		opts.Concurrency = 1
		require.NoError(t, w.download(opts))
		assert.Greater(t, w.gets(b), 2)
		assert.EqualValues(t, 1, dials.Load())
	})
}

// proxy is a proxy that joins CONNECT requests to the hosts of a network.
type proxy struct {
	network *registrytest.Network
	status  int // 0: all goes well

	mu   sync.Mutex // guards the field that follows
	seen []*http.Request
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r)
	p.mu.Unlock()
	if p.status != 0 {
		w.WriteHeader(p.status)
		return
	}
	there, err := p.network.DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(there, buffered); _ = there.Close() })
	_, _ = io.Copy(here, there)
	_ = here.Close()
	both.Wait()
}

// proxied is a world whose client goes through a proxy.
func proxied(t *testing.T, mode registrytest.Mode) (*world, *proxy) {
	w := newWorld(t, mode, registrytest.Options{Token: "secret"})
	p := &proxy{network: w.net}
	server := w.net.Serve("proxy.test", p, registrytest.H1)
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	w.client.Transport.(*http.Transport).Proxy = http.ProxyURL(u)
	return w, p
}

func TestN35ProxyNeverSeesTheToken(t *testing.T) {
	for _, mode := range []registrytest.Mode{registrytest.H1TLS, registrytest.H2} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, p := proxied(t, mode)
				opts := w.withToken(w.downloadOptions(w.remote(1000), w.remote(mebibyte)))
				require.NoError(t, w.download(opts))
				w.client.CloseIdleConnections()
				p.mu.Lock()
				defer p.mu.Unlock()
				require.NotEmpty(t, p.seen)
				for _, r := range p.seen {
					assert.Equal(t, "CONNECT", r.Method)
					assert.Empty(t, r.Header.Get("Authorization"))
				}
			})
		})
	}
}

func TestN35ProxyAsksForAPassword(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, p := proxied(t, mode)
		p.status = http.StatusProxyAuthRequired
		b := w.remote(1000)
		took, err := w.timed(w.withToken(w.downloadOptions(b)))
		require.Error(t, err)
		assert.Contains(t, err.Error(), "Proxy Authentication Required")
		assert.Len(t, p.seen, 1)
		assert.Less(t, took, noBackoff)
		w.requireNothing(b)
	})
}

func TestN35DeadProxy(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, _ := proxied(t, mode)
		w.net.Down("proxy.test:80", registrytest.Refused())
		b := w.remote(1000)
		_, err := w.timed(w.downloadOptions(b))
		w.requireExhausted(err, b, syscall.ECONNREFUSED)
		assert.Equal(t, 6, w.net.Dials("proxy.test:80"))
	})
}

// The default client heeds the proxy of the environment, which is read once in a process.
func TestN35ProxyOfTheEnvironment(t *testing.T) {
	const child = "TRANSFER_TEST_PROXIED"
	reg := registrytest.New(registrytest.Options{})
	opts := transfer.DownloadOptions{
		Blobs:   []transfer.Blob{{Digest: reg.Put(repository, []byte("content")).String(), Size: 7}},
		BaseURL: "http://registry.invalid", DestDir: os.Getenv(child), Repository: repository,
	}
	if opts.DestDir != "" {
		require.NoError(t, transfer.Download(t.Context(), opts))
		return
	}
	server := registrytest.Serve(t, reg, registrytest.H1)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"="+t.TempDir(), "HTTP_PROXY="+server.URL, "NO_PROXY=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Equal(t, "registry.invalid", reg.Requests()[0].Host)
}
