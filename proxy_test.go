package transfer_test

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

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
