package push_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/retry"
)

// interrupted pushes a blob until half of it has moved, and leaves a session.
func (w *world) interrupted(b blob) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	w.reg.Fault("PUT", "/uploads/", "slow(5M)")
	time.AfterFunc(2500*time.Millisecond, cancel)
	require.ErrorIs(w.t, w.pushWith(ctx, w.pusher(w.server.URL), b, ""), context.Canceled)
	w.reg.Wait()
	require.Equal(w.t, 1, w.reg.Sessions())
	w.moved.Store(0)
}

// An empty session of an earlier call is sent the whole blob, as a new one is.
func TestEmptySessionIsSentTheWhole(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(largeSize)
		w.interrupted(b)
		var methods []string
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			methods = append(methods, r.Method)
			switch r.Method {
			case http.MethodGet:
				rw.Header().Set("Range", "0-0")
				rw.WriteHeader(http.StatusNoContent)
			case http.MethodPut:
				_, _ = io.Copy(io.Discard, r.Body)
				rw.WriteHeader(http.StatusCreated)
			default:
				rw.WriteHeader(http.StatusNotFound)
			}
			return true
		})
		require.NoError(t, w.push(b, ""))
		assert.Equal(t, []string{"HEAD", "GET", "PUT"}, methods)
	})
}

// answersOnce answers the first request with a method so, and reads no byte of its body.
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

// The first large blob has sessions forgotten that nobody has gone on with for long.
func TestE18OldSessionsAreSweptByTheNextUpload(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cache, err := os.UserCacheDir()
		require.NoError(t, err)
		dir := filepath.Join(cache, "modeltransfer", "uploads")
		require.NoError(t, os.MkdirAll(dir, 0o700))
		old := filepath.Join(dir, strings.Repeat("a", 64))
		require.NoError(t, os.WriteFile(old, nil, 0o600))
		require.NoError(t, os.Chtimes(old, time.Time{}, time.Now().Add(-8*24*time.Hour)))
		require.NoError(t, w.push(w.local(largeSize), ""))
		assert.NoFileExists(t, old)
	})
}

// A registry that is away does not hold up who has cancelled the call.
func TestE16CancelDoesNotWaitForADeadRegistry(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.before(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut && r.Method != http.MethodDelete {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			time.AfterFunc(time.Second, cancel)
			<-r.Context().Done()
			return true
		})
		begun := time.Now()
		err := w.pushWith(ctx, w.pusher(w.server.URL), w.local(3<<20), "")
		require.ErrorIs(t, err, context.Canceled)
		assert.LessOrEqual(t, time.Since(begun), 2100*time.Millisecond)
	})
}
