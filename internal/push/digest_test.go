package push_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

func TestU20RegistryFindsAnotherDigest(t *testing.T) {
	cases := map[string]int{"once": 1, "for ever": 1000}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, times int) {
		w := newWorld(t, mode, registrytest.Options{})
		left := times
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || left == 0 {
				return false
			}
			left--
			_, _ = io.Copy(io.Discard, r.Body)
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(rw, `{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}`)
			return true
		})
		b := w.local(3 << 20)
		err := w.push(b, "")
		assert.Equal(t, 2, w.reg.Count("POST", ""))
		if times == 1 {
			require.NoError(t, err)
			w.requireStored(b)
			return
		}
		var status *statusError
		require.ErrorAs(t, err, &status)
		assert.Equal(t, http.StatusBadRequest, status.Status)
		assert.Equal(t, 2, w.reg.Count("PUT", ""))
	})
}

// A session that an earlier call has left may have the beginning of another file. Whatever a registry says to
// that, the blob is sent anew once.
func TestU20SessionOfAnotherFile(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(largeSize)
		w.interrupted(b)
		w.reg.Fault("PUT", "/uploads/", "says(400, it is another)")
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.Equal(t, 2, w.reg.Count("POST", ""), "a new session, after that of the earlier call")
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

// DIGEST_INVALID to a small blob that came with the POST is believed the second time.
func TestE11OtherDigestOfABlobThatCameWithThePOST(t *testing.T) {
	const says = `says(400, {"errors":[{"code":"DIGEST_INVALID"}]})`
	cases := map[string]bool{says: true, "**" + says: false}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, once bool) {
		w := newWorld(t, mode, registrytest.Options{SingleShot: true})
		p := w.pusher(w.server.URL)
		require.NoError(t, w.pushWith(t.Context(), p, w.local(1000), "")) // the trial
		b := w.local(2000)
		if once {
			w.reg.Fault("POST", "digest=", says)
		} else {
			w.reg.Fault("POST", "digest=", "**"+says)
			w.reg.Fault("PUT", "", "**"+says)
		}
		w.moved.Store(0)
		err := w.pushWith(t.Context(), p, b, "")
		if once {
			require.NoError(t, err)
			w.requireStored(b)
			return
		}
		var refused *statusError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, 1, w.reg.Count("PUT", ""), "sent twice in all")
	})
}
