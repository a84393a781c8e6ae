package push_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestU21MountComesBeforeTheSessionOfAnEarlierCall(t *testing.T) {
	cases := registrytest.Named("mounted", "mounted at last", "there", "neither")
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, where string) {
		w := newWorld(t, mode, registrytest.Options{Sessions: registrytest.Sessions{StrictState: true}})
		b := w.local(largeSize)
		w.interrupted(b)
		before := w.reg.BytesReceived()
		switch where {
		case "mounted":
			w.stored("library/other", b)
		case "mounted at last":
			w.stored("library/other", b)
			w.reg.Fault("POST", "mount", "503")
		case "there":
			w.stored(repository, b)
		}
		require.NoError(t, w.push(b, "library/other"))
		w.requireStored(b)
		if where == "neither" {
			assert.Equal(t, b.size(), w.reg.BytesReceived(), "%d bytes were there already", before)
		} else {
			assert.Equal(t, before, w.reg.BytesReceived())
		}
	})
}

// fromAll pushes blobs one after another with one pusher, all with the same From, and returns what was asked.
func (w *world) fromAll(from string, blobs ...blob) string {
	w.t.Helper()
	p := w.pusher(w.server.URL)
	for _, b := range blobs {
		require.NoError(w.t, w.pushWith(w.t.Context(), p, b, from))
	}
	return w.asked()
}

// A registry that does not mount has a session begun with each try. After two, it is asked first.
func TestU13RegistryThatDoesNotMountIsAskedFirst(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoMount: true})
		var blobs []blob
		for i := range 6 {
			b := w.local(3<<20 + i)
			w.stored(repository, b)
			blobs = append(blobs, b)
		}
		asked := w.fromAll("library/other", blobs...)
		assert.Equal(t, "POST HEAD DELETE POST HEAD DELETE HEAD HEAD HEAD HEAD", asked)
	})
}

func TestU13RegistryThatMountsIsNotAskedFirst(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		var blobs []blob
		for i := range 6 {
			b := w.local(3<<20 + i)
			w.stored("library/other", b)
			blobs = append(blobs, b)
		}
		assert.Equal(t, "POST POST POST POST POST POST", w.fromAll("library/other", blobs...))
	})
}

// The second repository may be the right one.
func TestE18EachFromIsTried(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		w.stored("library/right", b)
		budget := w.budget()
		from := []string{"", "wrong", "right:latest", "wrong"}
		up := w.pusher(w.server.URL).Blob(b.digest, b.size(), from, budget)
		require.NoError(t, up.Close(t.Context(), w.run(t.Context(), budget, up.Attempt)))
		assert.Zero(t, w.reg.BytesReceived())
		w.requireStored(b)
	})
}

// Nor are many tried at once before it is known.
func TestU13RegistryThatMayNotMountIsAskedFirst(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoMount: true})
		p := w.pusher(w.server.URL)
		var g errgroup.Group
		for i := range 8 {
			b := w.local(3<<20 + i)
			w.stored(repository, b)
			g.Go(func() error { return w.pushWith(t.Context(), p, b, "library/other") })
		}
		require.NoError(t, g.Wait())
		assert.Equal(t, 2, w.reg.Count("POST", ""))
	})
}

// Only mounts that are refused in a row say that there will be none.
func TestU13MountThatIsMadeEndsTheRow(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		var blobs []blob
		for i := range 5 {
			b := w.local(3<<20 + i)
			w.stored([]string{"library/other", repository}[i%2], b)
			blobs = append(blobs, b)
		}
		asked := w.fromAll("library/other", blobs...)
		assert.Equal(t, "POST POST HEAD DELETE POST POST HEAD DELETE POST", asked)
	})
}

// A repository that it mounted from says nothing of another one.
func TestU13RegistryThatHasMountedIsAskedFirstAfterTwo(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		first := w.local(3 << 20)
		w.stored("library/other", first)
		blobs := []blob{first}
		for i := range 4 {
			b := w.local(3<<20 + 1 + i)
			w.stored(repository, b)
			blobs = append(blobs, b)
		}
		asked := w.fromAll("library/other", blobs...)
		assert.Equal(t, "POST POST HEAD DELETE POST HEAD DELETE HEAD HEAD", asked)
	})
}
