package push_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/retry"
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

// answersOnce has the first request with a method answered so, and no byte of its body read.
func (w *world) answersOnce(method string, status int, header, value string) {
	var answered atomic.Bool
	w.before(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || answered.Swap(true) {
			return false
		}
		rw.Header().Set(header, value)
		rw.WriteHeader(status)
		return true
	})
}

func TestN45SessionOutlivesTheCall(t *testing.T) {
	cases := registrytest.Named("HEAD", "GET", "PATCH", "PUT")
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, method string) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(largeSize)
		w.interrupted(b)
		w.answersOnce(method, http.StatusServiceUnavailable, "Retry-After", "3600")
		require.ErrorIs(t, w.push(b, ""), retry.ErrExhausted)
		w.requireContinued(b)
	})
}

// A person logs in again, and runs it again.
func TestN22SessionOutlivesTheToken(t *testing.T) {
	cases := registrytest.Named("HEAD", "GET", "PATCH", "PUT")
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, method string) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(largeSize)
		w.interrupted(b)
		w.answersOnce(method, http.StatusUnauthorized, "WWW-Authenticate", "Basic")
		var status *statusError
		require.ErrorAs(t, w.push(b, ""), &status)
		w.requireContinued(b)
	})
}

func TestN25SessionOutlivesTheToken(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		revoked := errors.New("revoked")
		w.getToken = func(context.Context, exchange.Challenge) (string, error) { return "", revoked }
		b := w.local(largeSize)
		w.interrupted(b)
		w.answersOnce("PATCH", http.StatusUnauthorized, "WWW-Authenticate", "Basic")
		require.ErrorIs(t, w.push(b, ""), revoked)
		w.requireContinued(b)
	})
}

// requireContinued pushes a blob, and checks that its session was gone on with.
func (w *world) requireContinued(b blob) {
	w.t.Helper()
	require.Equal(w.t, 1, w.reg.Sessions())
	w.moved.Store(0)
	require.NoError(w.t, w.push(b, ""))
	w.requireStored(b)
	assert.Equal(w.t, 1, w.reg.Count("POST", ""), "sessions begun")
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

// What does not confirm a blob is followed by a question, and that decides.
func TestU15OtherSuccessIsAskedAbout(t *testing.T) {
	type test struct {
		status int
		stored bool
	}
	cases := registrytest.Named(
		test{200, true}, test{200, false}, test{202, true}, test{202, false}, test{204, true}, test{204, false},
	)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if c.stored {
				w.stored(repository, b)
			}
			rw.WriteHeader(c.status)
			return true
		})
		err := w.push(b, "")
		assert.Equal(t, 2, w.reg.Count("HEAD", ""))
		if c.stored {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, sentinel.ErrProtocol)
		assert.ErrorContains(t, err, fmt.Sprint(c.status))
	})
}

// The digest of what was stored confirms it, whatever the status.
func TestU15DigestConfirms(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			rw.Header().Set("Docker-Content-Digest", b.digest.String())
			rw.WriteHeader(http.StatusNoContent)
			return true
		})
		require.NoError(t, w.push(b, ""))
		assert.Equal(t, 1, w.reg.Count("HEAD", ""))
	})
}

// headIs answers each HEAD with 200, or with 404 until absent is false.
func (w *world) headIs(length string, dg digest.Digest, absent func() bool) {
	w.before(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead {
			return false
		}
		if absent() {
			rw.WriteHeader(http.StatusNotFound)
			return true
		}
		if dg != "" {
			rw.Header().Set("Docker-Content-Digest", dg.String())
		}
		if length != "" {
			rw.Header().Set("Content-Length", length)
		} else {
			_ = http.NewResponseController(rw).Flush()
		}
		rw.WriteHeader(http.StatusOK)
		return true
	})
}

func never() bool { return false }

// OCI asks for no header with a 200: a blob is there unless something speaks against it.
func TestU16AndU28WhatHeadSaysOfABlob(t *testing.T) {
	const size = 3 << 20
	right, wrong := "right", "wrong"
	type test struct {
		size           int
		length, digest string
		there          bool
	}
	cases := map[string]test{
		"U28 bare":                      {size: size, there: true},
		"U28 bare, of no bytes":         {there: true},
		"U28 of no bytes":               {length: "0", there: true},
		"U28 of no bytes, wrong digest": {length: "0", digest: wrong},
		"right length":                  {size: size, length: fmt.Sprint(size), there: true},
		"right length, right digest":    {size: size, length: fmt.Sprint(size), digest: right, there: true},
		"right length, wrong digest":    {size: size, length: fmt.Sprint(size), digest: wrong},
		"right digest":                  {size: size, digest: right, there: true},
		"wrong digest":                  {size: size, digest: wrong},
		"empty, right digest":           {size: size, length: "0", digest: right},
		"shorter, right digest":         {size: size, length: fmt.Sprint(size - 1), digest: right},
		"longer":                        {size: size, length: fmt.Sprint(size + 1)},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(c.size)
		w.headIs(c.length, map[string]digest.Digest{right: b.digest, wrong: digest.FromString("x")}[c.digest], never)
		require.NoError(t, w.push(b, ""))
		if c.there {
			assert.Equal(t, "HEAD", w.asked())
			return
		}
		w.requireStored(b)
	})
}

// Where it is not known what became of a blob, a HEAD without length and digest settles nothing.
func TestU28BareHeadSettlesNoDoubt(t *testing.T) {
	type test struct {
		size           int
		method, script string
		confirmed      bool
	}
	cases := map[string]test{
		"failed, with the POST": {1000, "POST", "503", true},
		"lost, with the POST":   {1000, "POST", "reset", true},
		"lost, of no bytes":     {0, "PUT", "reset", true},
		"failed, whole":         {3 << 20, "PUT", "503", true},
		"lost, in chunks":       {20 << 20, "PUT", "read+504", true},
		"201, never read":       {3 << 20, "PUT", "201", true},
		"no 201":                {3 << 20, "PUT", "read+200", false},
		"no 201, of no bytes":   {0, "PUT", "204", false},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{SingleShot: true})
		b := w.local(c.size)
		length := map[bool]string{true: "0"}[c.size == 0]
		w.headIs(length, "", func() bool { return w.reg.Count(c.method, "") == 0 })
		w.reg.Fault(c.method, "", c.script)
		err := w.push(b, "")
		if c.confirmed {
			require.NoError(t, err)
			w.requireStored(b)
			return
		}
		require.ErrorIs(t, err, sentinel.ErrProtocol)
	})
}

// The Ollama registry is told with the first request which blob is meant. A 201 to that is a claim.
func TestU15ClaimWithoutABodyIsAskedAbout(t *testing.T) {
	cases := registrytest.Named(true, false)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, there bool) {
		w := newWorld(t, mode, registrytest.Options{})
		s := w.newStore()
		p := w.pusher(w.server.URL)
		require.NoError(t, w.pushWith(t.Context(), p, w.local(2<<20), ""))
		b := w.local(3 << 20)
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return s.registry(rw, r)
			}
			assert.Equal(t, b.digest.String(), r.URL.Query().Get("digest"))
			if there {
				w.stored(repository, b)
			}
			rw.WriteHeader(http.StatusCreated)
			return true
		})
		err := w.pushWith(t.Context(), p, b, "")
		if there {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, sentinel.ErrProtocol)
		}
	})
}

// A store that a registry redirects to may not answer HEAD, because its URLs are signed for GET.
func TestU22HeadIsRedirectedToAStoreThatRefusesIt(t *testing.T) {
	const distribution = "Docker-Distribution-Api-Version"
	type test struct {
		path   string
		header string
		status int
		there  bool
	}
	cases := map[string]test{
		"the URL names the blob":     {path: "/blobs/sha256/%s/data", status: 403, there: true},
		"405":                        {path: "/blobs/sha256/%s/data", status: 405, there: true},
		"the redirect is a registry": {path: "/x", header: distribution, status: 403, there: true},
		"a portal":                   {path: "/login", status: 403},
		"not there":                  {path: "/blobs/sha256/%s/data", status: 404},
		"there, of another length":   {path: "/blobs/sha256/%s/data", status: 200},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		store := w.serve("store.test", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", "5")
			rw.WriteHeader(c.status)
		})
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodHead {
				return false
			}
			if c.header != "" {
				rw.Header().Set(c.header, "registry/2.0")
			}
			place := strings.ReplaceAll(c.path, "%s", b.digest.Encoded())
			http.Redirect(rw, r, store+place+"?sig=x", http.StatusTemporaryRedirect)
			return true
		})
		require.NoError(t, w.push(b, ""))
		if c.there {
			assert.Zero(t, w.reg.Count("POST", ""))
			assert.Equal(t, b.size(), w.moved.Load())
			return
		}
		w.requireStored(b)
	})
}

// A server that does not read a body it waits to be asked for has not stored it.
func TestU25SuccessOfABodyThatNeverLeft(t *testing.T) {
	cases := map[string]int{"large": 9 << 20, "small": 3 << 20}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, size int) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", "201")
		b := w.local(size)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.NotZero(t, w.reg.Count("PATCH", ""), "it is sent another way")
	})
}

func TestU25SuccessOfABodyThatIsNeverRead(t *testing.T) {
	cases := registrytest.Named("PUT", "PATCH")
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, method string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.Method == http.MethodPut && method == "PATCH" && r.ContentLength > 0:
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
			case r.Method == http.MethodPut:
				rw.WriteHeader(http.StatusCreated)
			case r.Method == http.MethodPatch:
				rw.WriteHeader(http.StatusAccepted)
			default:
				return false
			}
			return true
		})
		b := w.local(3 << 20)
		begun := time.Now()
		require.ErrorIs(t, w.push(b, ""), sentinel.ErrProtocol)
		assert.Less(t, time.Since(begun), 5*time.Second)
		assert.LessOrEqual(t, w.reg.Count(method, ""), 3)
		_, stored := w.reg.Blob(b.digest)
		assert.False(t, stored)
	})
}

// closes counts answers and how many of their bodies were closed. It answers a PUT though its body could not
// be read.
type closes struct {
	next           http.RoundTripper
	answers, ended atomic.Int64
}

func (c *closes) RoundTrip(r *http.Request) (*http.Response, error) {
	var resp *http.Response
	var err error
	if r.Method == http.MethodPut {
		_, _ = io.Copy(io.Discard, r.Body)
		resp = &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody, Request: r}
	} else if resp, err = c.next.RoundTrip(r); err != nil {
		return nil, err
	}
	c.answers.Add(1)
	resp.Body = &closing{resp.Body, &c.ended}
	return resp, nil
}

type closing struct {
	io.ReadCloser
	count *atomic.Int64
}

func (c *closing) Close() error {
	c.count.Add(1)
	return c.ReadCloser.Close()
}

// A wrong source ends an upload, and the answer that comes all the same is closed.
func TestU7AnswerToAWrongSourceIsClosed(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		count := &closes{}
		w.round = func(next http.RoundTripper) http.RoundTripper { count.next = next; return count }
		b := w.local(3 << 20)
		wrong := append([]byte(nil), b.data...)
		wrong[0] ^= 1
		w.replace(b, wrong)
		require.ErrorIs(t, w.push(b, ""), sentinel.ErrDigestMismatch)
		assert.EqualValues(t, 4, count.answers.Load(), "HEAD, POST, PUT, DELETE")
		assert.Equal(t, count.answers.Load(), count.ended.Load())
	})
}

func TestRegistryThatStoresAnotherDigest(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		other := digest.FromString("another").String()
		w.reg.Fault("PUT", "digest=", "**header(-docker-content-digest; docker-content-digest: "+other+")")
		require.ErrorIs(t, w.push(w.local(1000), ""), sentinel.ErrDigestMismatch)
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
