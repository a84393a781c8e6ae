package push_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// page answers with a web page.
func page(rw http.ResponseWriter) {
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(rw, "<!doctype html><title>Log in</title>")
}

func TestU15WebPageIsNoSuccess(t *testing.T) {
	cases := registrytest.Named("HEAD", "POST", "PATCH", "PUT", "every request")
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, method string) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 2 << 20})
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			committing := r.Method != "PUT" || r.ContentLength == 0
			if method == "every request" || r.Method == method && committing {
				_, _ = io.Copy(io.Discard, r.Body)
				page(rw)
				return true
			}
			return false
		})
		begun := time.Now()
		b := w.local(3 << 20)
		err := w.push(b, "")
		require.ErrorIs(t, err, sentinel.ErrProtocol)
		assert.ErrorContains(t, err, "text/html")
		assert.ErrorContains(t, err, "captive portal")
		assert.Less(t, time.Since(begun), 5*time.Second, "no wait will mend it")
		_, stored := w.reg.Blob(b.digest)
		assert.False(t, stored)
	})
}

// A person signs in, and runs it again.
func TestU15WebPageLeavesTheSession(t *testing.T) {
	cases := registrytest.Named("HEAD", "GET", "PATCH", "PUT")
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, method string) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(largeSize)
		w.interrupted(b)
		w.reg.Fault(method, "", "page")
		require.ErrorIs(t, w.push(b, ""), sentinel.ErrProtocol)
		require.Equal(t, 1, w.reg.Sessions())
		w.moved.Store(0)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.Equal(t, b.size(), w.reg.BytesReceived(), "no byte is sent twice")
		assert.Equal(t, 1, w.reg.Count("POST", ""))
	})
}

func TestU15WebPageForAManifestIsNoSuccess(t *testing.T) {
	cases := registrytest.Named(200, 204, 201, 202)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, status int) {
		w := newWorld(t, mode, registrytest.Options{})
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			rw.WriteHeader(status)
			return true
		})
		err := w.manifest([]byte(`{}`))
		if status == 201 || status == 202 {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, sentinel.ErrProtocol)
		assert.Equal(t, 1, w.reg.Count("PUT", ""))
	})
}

// A sign-on proxy may stand before the object store too.
func TestU15WebPageInPlaceOfAStore(t *testing.T) {
	cases := map[string]bool{"direct": true, "parts": false}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, direct bool) {
		w := newWorld(t, mode, registrytest.Options{})
		s := w.newStore()
		s.direct = direct
		s.url = w.serve("portal.test", func(rw http.ResponseWriter, r *http.Request) {
			drain(r)
			page(rw)
		})
		b := w.local(3 << 20)
		begun := time.Now()
		err := w.push(b, "")
		require.ErrorIs(t, err, sentinel.ErrProtocol)
		require.ErrorContains(t, err, "captive portal")
		assert.Less(t, time.Since(begun), 5*time.Second, "no wait will mend it")
	})
}

// A portal is asked nothing more.
func TestU15WebPageInPlaceOfAManifest(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			drain(r)
			page(rw)
			return true
		})
		err := w.manifest([]byte(`{}`))
		require.ErrorIs(t, err, sentinel.ErrProtocol)
		require.ErrorContains(t, err, "captive portal")
		assert.Equal(t, "PUT", w.asked())
	})
}
