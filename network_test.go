package transfer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

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
		"N32 DNS out of order": &net.DNSError{Err: "server misbehaving", Name: "registry.test", IsTemporary: true},
		"N33 refused":          registrytest.Refused(),
		"N33 unreachable":      os.NewSyscallError("connect", syscall.ENETUNREACH),
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
		w.reg.Fault("GET", b.Digest, "hinting(1s)")
		took, err := w.timed(w.downloadOptions(b))
		require.NoError(t, err)
		assert.Equal(t, 2, w.gets(b))
		assert.InDelta(t, 10, took.Seconds(), 2)
	})
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
