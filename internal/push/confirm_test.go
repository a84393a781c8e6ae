package push_test

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// What does not confirm a blob is followed by a question, and that decides.
func TestU15OtherSuccessIsAskedAbout(t *testing.T) {
	type test struct {
		status int
		stored bool
	}
	cases := registrytest.Named(
		test{200, true}, test{200, false}, test{202, true}, test{202, false},
		test{204, true}, test{204, false},
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

// saying answers a POST that begins a session with another status, and perhaps without a Location.
type saying struct {
	next     http.RoundTripper
	status   int
	location bool
}

func (s *saying) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.next.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusAccepted && r.Method == http.MethodPost {
		if resp.StatusCode = s.status; !s.location {
			resp.Header.Del("Location")
		}
	}
	return resp, err
}

// Simple registries say 200 where a session was begun.
func TestU15SessionThatIsBegunWith200(t *testing.T) {
	type test struct {
		status, size int
		location     bool
		from         string
	}
	cases := registrytest.Named(
		test{200, 1000, true, ""}, test{204, 1000, true, ""}, test{200, 3 << 20, true, ""},
		test{200, 3 << 20, true, "other"}, test{200, 3 << 20, false, ""}, test{204, 1000, false, ""},
	)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		w.round = func(next http.RoundTripper) http.RoundTripper {
			return &saying{next, c.status, c.location}
		}
		b := w.local(c.size)
		err := w.push(b, c.from)
		if c.location {
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

// 409 to a session that is ended for the second time may mean that it was ended the first time.
func TestE4ConflictOfACommitThatIsRepeated(t *testing.T) {
	cases := registrytest.Named(true, false)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, stored bool) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 4 << 20})
		b := w.local(10 << 20)
		var commits atomic.Int32
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || r.ContentLength > 0 {
				return false
			}
			if commits.Add(1) == 1 {
				rw.WriteHeader(http.StatusGatewayTimeout)
				return true
			}
			if stored {
				w.stored(repository, b)
			}
			rw.WriteHeader(http.StatusConflict)
			return true
		})
		err := w.push(b, "")
		if stored {
			require.NoError(t, err)
			return
		}
		var refused *statusError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, http.StatusConflict, refused.Status)
		assert.LessOrEqual(t, commits.Load(), int32(3))
	})
}
