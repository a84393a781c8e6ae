package transfer_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

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
		w.reg.Configure(func(o *registrytest.Options) {
			o.RedirectUploads = registrytest.To(w.net.Serve("cdn.test", cdn, mode).URL)
		})
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

// bare answers with no more than net/http asks of a RoundTripper.
type bare int

func (b bare) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return &http.Response{StatusCode: int(b)}, nil
}

func TestI20BareTransport(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	for status, want := range map[int]error{307: transfer.ErrRedirectRefused, 202: transfer.ErrProtocol, 403: nil, 413: nil} {
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

func TestI16ProgressPanics(t *testing.T) {
	for _, at := range []int{1, 2} {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{})
			w.reg.Fault("PUT", "/uploads/", "**slow(1M)")
			opts := w.uploadOptions(w.local(3<<20), w.local(4<<20))
			calls := 0
			opts.Progress = func(int64, int64) {
				if calls++; calls == at {
					panic("out of paper")
				}
			}
			begun := time.Now()
			assert.PanicsWithValue(t, "out of paper", func() { _ = transfer.Upload(t.Context(), opts) })
			assert.Less(t, time.Since(begun), time.Second, "nothing more is sent")
			assert.Equal(t, at, calls, "no call after the panic")
			w.reg.Wait()
			assert.Zero(t, w.reg.Sessions())
		})
	}
}

func TestI17ProgressBlocks(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(10), w.local(3<<20))
		begun, finished := time.Now(), time.Duration(0)
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/manifests/") {
					finished = time.Since(begun)
				}
				return false
			}
		})
		opts.Progress = func(completed, total int64) {
			time.Sleep(time.Hour)
			w.progress.add(completed, total)
		}
		require.NoError(t, w.upload(opts))
		assert.Less(t, finished, time.Minute, "requests do not wait for the callback")
		assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
	})
}

// A call that was cancelled before its first request has moved nothing, and says so.
func TestI18CancelledBeforeItBegins(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b := w.local(100)
		require.ErrorIs(t, transfer.Upload(ctx, w.uploadOptions(b)), context.Canceled)
		require.ErrorIs(t, transfer.Download(ctx, w.downloadOptions(w.remote(200))), context.Canceled)
		assert.Empty(t, w.reg.Requests())
	})
}

func TestI18ProgressCancelsAndReenters(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "slow(1M)")
		ctx, cancel := context.WithCancel(t.Context())
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Progress = func(int64, int64) { cancel() }
		require.ErrorIs(t, transfer.Upload(ctx, opts), context.Canceled)

		inner := w.uploadOptions(w.local(100))
		opts.Progress = func(completed, total int64) {
			assert.NoError(t, transfer.Upload(t.Context(), inner))
			w.progress.add(completed, total)
		}
		require.NoError(t, transfer.Upload(t.Context(), opts))
	})
}
