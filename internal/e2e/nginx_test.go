package e2e

import (
	"bytes"
	"context"
	"io"
	"maps"
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
)

// The tests of this file put nginx before the reference registry, as it is set up well and badly.

// atOnce is less than the least time that anything is waited for and tried again.
const atOnce = 3 * time.Second

func TestRoundTripThroughNginx(t *testing.T) {
	s := newDistribution(t).serve(t)
	for name, n := range map[string]*nginx{
		"plain": newNginx(t, s, forwarding+"client_max_body_size 0;"),
		"TLS":   newNginxTLS(t, s, forwarding+"client_max_body_size 0;"),
	} {
		t.Run(name, func(t *testing.T) {
			src, dst := t.TempDir(), t.TempDir()
			blobs := addBlobs(t, src, uint64(len(name)), mixedSizes...)
			n.forget()
			push(t, upload(n.server, src, blobs))
			assert.Equal(t, sumOf(blobs), sumReceived(n.seen(byLibrary)))
			pull(t, download(n.server, dst, blobs))
			requireSame(t, src, dst, blobs)
		})
	}
}

func TestN48NginxPassesOnWrongHostOrScheme(t *testing.T) {
	const (
		forwardedProto = "proxy_set_header X-Forwarded-Proto "
		host, proto    = "proxy_set_header Host $http_host;", forwardedProto + "$scheme;"
	)
	for _, tc := range []struct {
		name, directives string
		tls              bool
		want             error
	}{
		{"port lost", proto + "proxy_set_header Host $host;", false, transfer.ErrWrongScheme},
		{"port lost, with TLS", proto + "proxy_set_header Host $host;", true, transfer.ErrWrongScheme},
		{"https on a plain port", host + forwardedProto + "https;", false, transfer.ErrWrongScheme},
		{"http on a TLS port", host + forwardedProto + "http;", true, transfer.ErrRedirectRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			requireClosed(t, "127.0.0.1:80", "127.0.0.1:443")
			s := newDistribution(t).serve(t)
			before := newNginx
			if tc.tls {
				before = newNginxTLS
			}
			n := before(t, s, tc.directives)
			for name, size := range map[string]int{"small": 50, "large": 20 * mib} {
				src := t.TempDir()
				begun := time.Now()
				err := transfer.Upload(t.Context(), upload(n.server, src, addBlobs(t, src, 1, size)))
				require.ErrorIs(t, err, tc.want, name)
				assert.Contains(t, err.Error(), "Host and X-Forwarded-Proto", name)
				assert.Less(t, time.Since(begun), atOnce, name)
			}
			assert.Zero(t, sumReceived(s.seen(byLibrary)), "bytes sent")
		})
	}
}

// requireClosed fails where something answers at an address that has to be closed for the test to mean
// anything.
func requireClosed(t testing.TB, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			t.Fatalf("a server at %s: the test needs that port closed", address)
		}
	}
}

func TestN48WrongSchemeToNginx(t *testing.T) {
	s := newDistribution(t).serve(t)
	for _, tc := range []struct {
		name, scheme string
		n            *nginx
	}{
		{"HTTPS to a plain port", "https", newNginx(t, s, forwarding)},
		{"HTTP to a TLS port", "http", newNginxTLS(t, s, forwarding)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, rest, _ := strings.Cut(tc.n.url, ":")
			tc.n.url, tc.n.client = tc.scheme+":"+rest, nil
			src := t.TempDir()
			blobs := addBlobs(t, src, 1, 50, 2*mib)
			for name, call := range map[string]func() error{
				"download": func() error {
					return transfer.Download(t.Context(), download(tc.n.server, t.TempDir(), blobs))
				},
				"upload": func() error {
					return transfer.Upload(t.Context(), upload(tc.n.server, src, blobs))
				},
			} {
				begun := time.Now()
				err := call()
				require.ErrorIs(t, err, transfer.ErrWrongScheme, name)
				assert.Contains(t, err.Error(), "check the scheme and the port of the base URL", name)
				assert.Less(t, time.Since(begun), atOnce, name)
			}
		})
	}
	assert.Empty(t, s.seen(byLibrary))
}

// nginx lets through bodies of 1 MiB where nothing else is said.
func TestBodyLimitOfNginx(t *testing.T) {
	for name, buffering := range map[string]string{"buffering": "on", "streaming": "off"} {
		t.Run(name, func(t *testing.T) {
			n := newNginx(t, newDistribution(t).serve(t), forwarding+"proxy_request_buffering "+buffering+";")
			src := t.TempDir()
			blobs := addBlobs(t, src, 1, 1000, mib, mib+1, 20*mib+7)
			push(t, upload(n.server, src, blobs))

			refused := n.answered(t, http.StatusRequestEntityTooLarge)
			assert.NotEmpty(t, refused)
			assert.Equal(t, sumOf(blobs), sumReceived(n.seen(byLibrary)))
			assert.NotEmpty(t, n.seen(method(http.MethodPatch), status(http.StatusAccepted)))
			t.Logf("%d bytes sent for %d, %d bodies refused", n.received(t), sumOf(blobs), len(refused))
			assert.LessOrEqual(t, n.received(t), sumOf(blobs)*13/10)
			p := newPeer(t, n.server, repository)
			for _, b := range blobs {
				p.requireBlob(t, src, b)
			}
		})
	}
}

// nginx takes the whole body at once and then passes it on to a registry that takes longer than the stall
// timeout to read it: for the client, the answer comes late. Where the client gives up, nginx does so too,
// and the session lacks what nginx had not passed on yet; or it goes on by itself, and what is sent meanwhile
// would be in its way.
func TestU18NginxBuffersForASlowRegistry(t *testing.T) {
	const size, stall = 20 * mib, time.Second
	for _, tc := range []struct {
		name, directives string
		most             int64 // bytes sent
	}{
		{"gives up with the client", "", size * 3 / 2},
		{"goes on alone", "proxy_ignore_client_abort on;", size * 13 / 10}, // headers too
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting
			s := serve(t, slowToRead(5*stall/2, newDistribution(t).handler(t)), false)
			n := newNginx(t, s, forwarding+"client_max_body_size 0;"+tc.directives)
			src := t.TempDir()
			blobs := addBlobs(t, src, 1, size)
			opts := upload(n.server, src, blobs)
			opts.StallTimeout, opts.RetryTimeout = stall, retryTimeout
			push(t, opts)
			newPeer(t, n.server, repository).requireBlob(t, src, blobs[0])
			t.Logf("%d bytes sent for %d", n.received(t), int64(size))
			assert.LessOrEqual(t, n.received(t), tc.most, "the session has a part of the first body")
		})
	}
}

// slowToRead pauses in the middle of each large body.
func slowToRead(pause time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if kindOf(r.URL.Path) == kindUpload && r.ContentLength > 0 {
			r = withBody(r, &slowBody{ReadCloser: r.Body, pause: pause})
		}
		next.ServeHTTP(w, r)
	})
}

// slowBody pauses once, in the middle of a body.
type slowBody struct {
	io.ReadCloser
	read  int
	pause time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += n
	if b.read > 10*mib {
		time.Sleep(b.pause)
		b.pause = 0
	}
	return n, err
}

// The registry has all bytes, but takes longer to say so than nginx waits.
func TestU18NginxGivesUpOnTheEndOfAnUpload(t *testing.T) {
	const patience, digestion = 5 * time.Second, 12 * time.Second
	for _, tc := range []struct{ name, limit string }{
		{"whole", "0"},
		{"in chunks", "8m"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting
			s := serve(t, slowToCommit(digestion, newDistribution(t).handler(t)), false)
			n := newNginx(t, s, forwarding+"proxy_read_timeout 5s; client_max_body_size "+tc.limit+";")
			src := t.TempDir()
			blobs := addBlobs(t, src, 1, 20*mib)
			opts := upload(n.server, src, blobs)
			opts.RetryTimeout = 2 * retryTimeout
			begun := time.Now()
			push(t, opts)
			t.Logf("%v, %d bytes sent for %d", time.Since(begun), n.received(t), sumOf(blobs))
			assert.NotEmpty(t, n.answered(t, http.StatusGatewayTimeout))
			assert.Greater(t, time.Since(begun), patience)
			assert.Equal(t, sumOf(blobs), sumReceived(s.seen(byLibrary)), "each byte is sent once")
			newPeer(t, n.server, repository).requireBlob(t, src, blobs[0])
		})
	}
}

// slowToCommit keeps what comes with a PUT in the session of an upload, and ends that after a while, even if
// nobody is waiting for it any more.
func slowToCommit(wait time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || kindOf(r.URL.Path) != kindUpload {
			next.ServeHTTP(w, r)
			return
		}
		ctx := context.WithoutCancel(r.Context())
		patch := r.Clone(ctx)
		patch.Method = http.MethodPatch
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, patch)
		place, err := url.Parse(answer.Header().Get("Location"))
		if err == nil && answer.Code == http.StatusAccepted {
			time.Sleep(wait)
			nothing := bytes.NewReader(nil)
			commit := httptest.NewRequestWithContext(ctx, http.MethodPut, place.String(), nothing)
			query := place.Query()
			query.Set("digest", r.URL.Query().Get("digest"))
			commit.URL.RawQuery = query.Encode()
			answer = httptest.NewRecorder()
			next.ServeHTTP(answer, commit)
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = answer.Body.WriteTo(w)
	})
}
