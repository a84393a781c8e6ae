package push_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// atStore is a world whose registry sends chunks to a store, which tells where a session goes on.
func atStore(t *testing.T, mode registrytest.Mode) (w *world, store *registrytest.CDN) {
	w = newWorld(t, mode, registrytest.Options{MaxBody: 12 << 20})
	store = w.reg.CDN()
	at := w.net.Serve("store.test", store, mode).URL
	w.reg.Configure(func(o *registrytest.Options) { o.RedirectUploads = registrytest.To(at) })
	return w, store
}

func TestU3SessionElsewhereIsAskedHowMuchItHas(t *testing.T) {
	for name, fault := range map[string][2]string{
		"its end is cut":        {"PUT", "ok->hangup"}, // after a body that is too large
		"its end is a 502":      {"PUT", "ok->2*502"},
		"a chunk is cut":        {"PATCH", "2*ok->reset(5M)"},
		"it is away for a time": {"", "3*ok->5*hangup"},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w, store := atStore(t, mode)
				store.Fault(fault[0], "/uploads/", fault[1])
				b := w.local(20 << 20)
				require.NoError(t, w.push(b, ""))
				w.requireStored(b)
				store.Wait()
				assert.LessOrEqual(t, store.BytesReceived(), b.size()+1<<20, "what it has is not sent again")
				assert.Equal(t, 1, w.reg.Count("POST", ""))
			})
		})
	}
}

// The host of the session may be one of several, and dead.
func TestN41SessionAtADeadStoreIsGivenUp(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, store := atStore(t, mode)
		other := w.reg.CDN()
		at := w.net.Serve("other.test", other, mode).URL
		store.Fault("", "/uploads/session-1", "3*ok->**hangup")
		b := w.local(20 << 20)
		time.AfterFunc(time.Minute, func() {
			w.reg.Configure(func(o *registrytest.Options) { o.RedirectUploads = registrytest.To(at) })
		})
		begun := time.Now()
		require.NoError(t, w.push(b, ""))
		w.reg.Wait()
		_, stored := w.reg.Blob(b.digest)
		assert.True(t, stored)
		assert.Equal(t, 2, w.reg.Count("POST", ""))
		assert.InDelta(t, 3, time.Since(begun).Minutes(), 0.6, "minutes: half of the budget, and two waits")
	})
}
