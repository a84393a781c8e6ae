package push_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// mountsByDigest has an Ollama registry answer that it has a blob already where it is told its digest.
func (w *world) mountsByDigest(blobs ...blob) {
	w.before(func(rw http.ResponseWriter, r *http.Request) bool {
		for _, b := range blobs {
			if r.Method == http.MethodPost && r.URL.Query().Get("digest") == b.digest.String() {
				w.stored(repository, b)
				rw.Header().Set("Docker-Content-Digest", b.digest.String())
				rw.WriteHeader(http.StatusCreated)
				return true
			}
		}
		return false
	})
}

// ollama makes the registry an Ollama registry that would mount all blobs but the first.
func (w *world) ollama(o registrytest.Ollama, sizes ...int) (blobs []blob) {
	w.reg.ServeOllama(w.net, "store.test", w.mode, o)
	for i, size := range sizes {
		blobs = append(blobs, w.local(size+i))
	}
	w.mountsByDigest(blobs[1:]...)
	return blobs
}

// What the registry is about to mount is not sent, whoever is the first to learn that it does.
func TestU24NoBodyOfWhatIsMounted(t *testing.T) {
	type test struct {
		first, there bool // whether there is a small blob, and the registry has it
		posts        int
	}
	cases := map[string]test{
		"a small blob goes first":    {true, false, 4},
		"the small blob is there":    {true, true, 4},
		"there are large blobs only": {false, true, 4},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		blobs := w.ollama(registrytest.Ollama{}, 1000, 3<<20, 4<<20, 5<<20)
		if c.there {
			w.stored(repository, blobs[0])
		}
		if w.first = blobs[0].digest; !c.first {
			w.first, blobs = "", blobs[1:]
		}
		require.NoError(t, w.pushAll("", blobs...))
		for _, b := range blobs {
			assert.True(t, w.reg.Has(repository, b.digest))
		}
		assert.Equal(t, c.posts, w.reg.Count("POST", ""))
		assert.Zero(t, w.reg.Count("PATCH", "&_state=1"))
		assert.LessOrEqual(t, w.reg.Count("PATCH", ""), 1, "the small blob's")
		assert.Zero(t, w.reg.Sessions())
	})
}

// A session that was begun with a mount is given up for one whose digest is told, before a byte is sent.
func TestU24DigestIsToldAfterAMount(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoMount: true})
		blobs := w.ollama(registrytest.Ollama{}, 1000, 3<<20)
		assert.Equal(t, "POST DELETE HEAD POST", w.fromAll("library/other", blobs[1]))
	})
}

// Where it is known that the registry wants the digest, a mount tells it.
func TestU24DigestIsToldWithAMount(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoMount: true})
		blobs := w.ollama(registrytest.Ollama{}, 1000, 3<<20, 4<<20)
		assert.Equal(t, "POST DELETE HEAD POST POST", w.fromAll("library/other", blobs[1:]...))
	})
}

// A registry that shows with a redirect of PATCH that it is one is told the digest then.
func TestU24DigestIsToldLate(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		blobs := w.ollama(registrytest.Ollama{LateLocation: true}, 1000, 3<<20)
		require.NoError(t, w.push(blobs[1], ""))
		assert.True(t, w.reg.Has(repository, blobs[1].digest))
		assert.Equal(t, 2, w.reg.Count("POST", ""))
		assert.Equal(t, 1, w.reg.Count("PATCH", ""))
	})
}

// A registry that has said in vain that it has a blob is not asked to say so again.
func TestU28BlobThatIsSentAgainIsNotMounted(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.ollama(registrytest.Ollama{}, 1000, 3<<20)[1]
		budget := w.budget()
		up := w.pusher(w.server.URL).Again(b.digest, b.size(), budget)
		require.NoError(t, up.Close(t.Context(), w.run(t.Context(), budget, up.Attempt)))
		assert.Equal(t, 1, w.reg.Count("POST", ""))
		assert.Equal(t, 1, w.reg.Count("PATCH", ""))
	})
}

// Who waits for the first blob does not try.
func TestE1BudgetStandsStillWhileTheFirstBlobIsWaitedFor(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.timeout = 2 * time.Second
		small, large := w.local(1000), w.local(3<<20)
		w.first = small.digest
		w.reg.Fault("HEAD", small.digest.String(), "delay(8s)+ok")
		posts := w.reg.Fault("POST", "", "ok->503") // the small one's, and the large one's: no byte has moved
		require.NoError(t, w.pushAll("", small, large))
		assert.True(t, w.reg.Has(repository, large.digest))
		assert.True(t, posts.Done())
	})
}

// The first blob that fails again and again holds nobody up.
func TestE1FirstBlobThatFails(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.timeout = 20 * time.Second
		small, large := w.local(1000), w.local(3<<20)
		w.first = small.digest
		w.reg.Fault("HEAD", small.digest.String(), "**503")
		p := w.pusher(w.server.URL)
		go func() { _ = w.pushWith(t.Context(), p, small, "") }()
		begun := time.Now()
		require.NoError(t, w.pushWith(t.Context(), p, large, ""))
		assert.Less(t, time.Since(begun), time.Second)
	})
}
