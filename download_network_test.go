package transfer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

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

// N9: a body that waited for its turn, or for what MaxBytesPerSecond leaves it, is not slow for that.
func TestN9WaitingIsNotSlow(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("GET", "", "**slow(100K)")
		opts := w.downloadOptions()
		opts.BodyConcurrency = 2
		for i := range 20 {
			opts.Blobs = append(opts.Blobs, w.remote(mebibyte+i*100_000))
		}
		require.NoError(t, w.download(opts))
		assert.Len(t, w.reg.Requests(), len(opts.Blobs))
	})
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
	for name, down := range map[string]error{
		"N32 DNS out of order": &net.DNSError{Err: "server misbehaving", Name: "registry.test", IsTemporary: true},
		"N33 refused":          registrytest.Refused(),
		"N33 unreachable":      os.NewSyscallError("connect", syscall.ENETUNREACH),
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
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

				w.net.Down("registry.test", down)
				time.AfterFunc(2*time.Second, func() { w.net.Down("registry.test", nil) })
				require.NoError(t, w.download(w.downloadOptions(b)), "back in time")
			})
		})
	}
}

// N33: one that has answered is waited for.
func TestN33AnsweredBefore(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "connreset(300K)")
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(http.ResponseWriter, *http.Request) bool {
				w.net.Down("registry.test", registrytest.Refused())
				return false
			}
		})
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

func TestN34Certificates(t *testing.T) {
	for name, spoil := range map[string]func(*http.Transport, *world){
		"unknown authority": func(tr *http.Transport, _ *world) { tr.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()} },
		"expired": func(tr *http.Transport, _ *world) {
			tr.TLSClientConfig.Time = func() time.Time { return time.Now().AddDate(200, 0, 0) }
		},
		"another host": func(tr *http.Transport, _ *world) { tr.TLSClientConfig.ServerName = "other.test" },
	} {
		for _, mode := range []registrytest.Mode{registrytest.H1TLS, registrytest.H2} {
			t.Run(name+" "+mode.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, mode, registrytest.Options{})
					b := w.remote(1000)
					spoil(w.client.Transport.(*http.Transport), w)
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
		Blobs: []transfer.Blob{{Digest: dg.String(), Size: 7}}, BaseURL: server.URL, DestDir: t.TempDir(), Repository: repository,
	})
	var cert *tls.CertificateVerificationError
	require.ErrorAs(t, err, &cert)
	var blob *transfer.BlobError
	require.ErrorAs(t, err, &blob)
	assert.Equal(t, 1, blob.Attempts)
	assert.Empty(t, reg.Requests())
}

// proxy is a proxy that joins CONNECT requests to the hosts of a network.
type proxy struct {
	network *registrytest.Network
	status  int // 0: all goes well

	mu   sync.Mutex
	seen []*http.Request // guarded by mu
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
				require.NoError(t, w.download(w.withToken(w.downloadOptions(w.remote(1000), w.remote(mebibyte)))))
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

// N39: hints without end are no progress.
func TestN39FloodOfHints(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				for w.gets(b) == 1 && r.Context().Err() == nil {
					rw.WriteHeader(http.StatusEarlyHints)
					time.Sleep(time.Second)
				}
				return false
			}
		})
		took, err := w.timed(w.downloadOptions(b))
		require.NoError(t, err)
		assert.Equal(t, 2, w.gets(b))
		assert.InDelta(t, 10, took.Seconds(), 2)
	})
}

func TestN38Cancel(t *testing.T) {
	for name, script := range map[string]string{
		"before the headers":  "stallheaders",
		"in the body":         "stall(500)",
		"while backing off":   "**503",
		"during Retry-After":  "2*429(retry-after: 100)",
		"in a slow body":      "slow(1)",
		"while slots are few": "**delay(2s)+slow(1)",
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b, other := w.remote(1000), w.remote(999)
				w.reg.Fault("GET", "", script)
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
				w.reg.Fault("GET", "", "**stallheaders")
				err = transfer.Download(deadline, w.downloadOptions(b))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				w.requireNothing(b)
				w.reg.Wait()
			})
		})
	}
}

func TestN38CancelledBefore(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		opts := w.downloadOptions(w.remote(1000))
		for _, verify := range []bool{false, true} {
			opts.Verify = verify
			require.ErrorIs(t, transfer.Download(ctx, opts), context.Canceled)
		}
		assert.Empty(t, w.reg.Requests())
		w.requireOnly()
	})
}

// What other blobs were doing when one failed ends too, and leaves nothing.
func TestFailureEndsTheOthers(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions()
		for i := range 10 {
			opts.Blobs = append(opts.Blobs, w.remote(1000+i))
		}
		w.reg.Fault("GET", opts.Blobs[3].Digest, "delay(3s)+403")
		w.reg.Fault("GET", "", "**stall(100)")
		took, err := w.timed(opts)
		w.requireStatus(err, opts.Blobs[3], http.StatusForbidden)
		assert.Equal(t, 3*time.Second, took)
		assert.Zero(t, w.reg.InFlight())
		w.requireOnly()
		assert.NotContains(t, err.Error(), fmt.Sprint(context.Canceled), "the first error, and not what came of it")
	})
}
