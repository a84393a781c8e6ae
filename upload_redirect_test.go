package transfer_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

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
		"PUT": {}, "PUT 308": {RedirectStatus: 308}, "PUT 302": {RedirectStatus: 302}, "PATCH": {MaxBody: 1 << 20},
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
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, method string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault(method, "", "**redirect(?again)")
		begun := time.Now()
		require.ErrorIs(t, w.upload(w.uploadOptions(w.local(3<<20))), transfer.ErrRedirectRefused)
		assert.Equal(t, 11, w.reg.Count(method, ""))
		assert.Less(t, time.Since(begun), noBackoff)
		assert.Zero(t, w.reg.BytesReceived())
	})
}

// A registry that reads a body before it sends it elsewhere.
func TestBodiesThatAreSentAgainAreBounded(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		hasty := w.net.Serve("hasty.test", registrytest.Hasty(w.reg, 2*time.Second), mode)
		w.reg.Fault("PUT", "again", "**slow(1M)")
		opts := w.uploadOptions()
		for i := range 6 {
			opts.Blobs = append(opts.Blobs, w.local(3<<20+i))
		}
		opts.BaseURL, opts.BodyConcurrency = hasty.URL, 1
		require.NoError(t, w.upload(opts))
		assert.LessOrEqual(t, w.reg.MaxInFlight(), 2, "one, and what the link still has of the one before")
	})
}

func TestN7StallOfABodyThatIsSentAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(64 << 20)
		hasty := w.net.Serve("hasty.test", registrytest.Hasty(w.reg, 0), mode)
		w.reg.Fault("PUT", "again", "stallbody(1M)")
		opts := w.uploadOptions(b)
		opts.BaseURL, opts.StallTimeout = hasty.URL, 2*time.Second
		begun := time.Now()
		require.NoError(t, w.upload(opts))
		assert.Less(t, time.Since(begun), 4*time.Second)
	})
}

// Some old proxies answer 417 to whatever says that it waits (RFC 9110 section 15.5.18).
func TestServersThatKnowNoExpectation(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoExpect: true})
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
