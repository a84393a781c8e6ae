package transfer_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
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

func TestLoggerGetsWhatHappens(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "new"})
		cdn := w.net.Serve("cdn.test", w.reg.CDN(), mode).URL
		w.redirectDownloads(cdn)
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "503->ok")
		var book logBook
		opts := w.downloadOptions(b)
		opts.Logger = book.logger()
		opts.GetToken = func(context.Context, transfer.AuthChallenge) (string, error) { return "new", nil }
		require.NoError(t, w.download(opts))
		told := book.String()
		for _, part := range []string{
			`level=DEBUG msg="download planned" blobs=1 missing=1`,
			`level=DEBUG msg=answer method=GET url=` +
				w.server.URL + "/v2/library/model/blobs/" + b.Digest + " status=503",
			`level=WARN msg="attempt failed, trying again" digest=` + b.Digest + " attempt=1 wait=",
			`level=DEBUG msg="token refused, asking for a new one"`,
			`level=DEBUG msg=answer method=GET url="` + cdn,
			`level=DEBUG msg="registry redirects" host=cdn.test`,
			`level=DEBUG msg="blob in place" digest=` + b.Digest + " size=1000",
			`level=DEBUG msg="download ended" blobs=1 completed=1000 total=1000`,
		} {
			assert.Contains(t, told, part)
		}
	})
}

func TestHeadersThatCannotBeSent(t *testing.T) {
	type uploadChange func(*transfer.UploadOptions)
	cases := map[string]uploadChange{
		"token": func(o *transfer.UploadOptions) { o.Token = "secret\n" },
		"agent": func(o *transfer.UploadOptions) { o.UserAgent = "a\nb" },
		"new token": func(o *transfer.UploadOptions) {
			o.GetToken = (&issuer{give: tokenAfter(0, "secret\n")}).getToken
		},
		"manifest": func(o *transfer.UploadOptions) { o.Manifest = []byte(`{"mediaType":"a\nb"}`) },
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, name string, change uploadChange) {
		w := newWorld(t, mode, registrytest.Options{})
		if name == "new token" {
			w.reg.Fault("HEAD", "", "**401")
		}
		opts := w.uploadOptions(w.local(100))
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		change(&opts)
		begun := time.Now()
		err := w.upload(opts)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "secret")
		assert.NotErrorIs(t, err, transfer.ErrRetriesExhausted)
		assert.Less(t, time.Since(begun), noBackoff)
	})
}
