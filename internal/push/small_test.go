package push_test

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// The reference registry drops the body of a POST, and does not ask for it.
func TestU25SmallBlobDoesNotWaitToBeAskedFor(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(50)
		begun := time.Now()
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.Less(t, time.Since(begun), 100*time.Millisecond)
		assert.Equal(t, "HEAD POST PUT", w.asked())
		for _, r := range w.reg.Requests() {
			assert.Empty(t, r.Header.Get("Expect"))
		}
	})
}

// A registry that has sent a small body elsewhere is asked first from then on.
func TestU10SmallBodyOfARegistryThatSendsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{}) // in HTTP/2 a handler does not see Expect
		cdn := w.reg.CDN()
		w.reg.Configure(func(o *registrytest.Options) {
			o.RedirectUploads = registrytest.To(w.net.Serve("cdn.test", cdn, registrytest.H1).URL)
		})
		p := w.pusher(w.server.URL)
		for _, size := range []int{1000, 900 << 10} {
			require.NoError(t, w.pushWith(t.Context(), p, w.local(size), ""))
		}
		var expects []string
		for _, r := range w.reg.Requests() {
			if r.Method == http.MethodPut {
				expects = append(expects, r.Header.Get("Expect"))
			}
		}
		assert.Equal(t, []string{"", "100-continue"}, expects)
	})
}

// expectations passes requests on, unless told otherwise without Expect, as some proxies do. It notes whether
// they had it.
type expectations struct {
	next http.RoundTripper
	keep bool
	seen []string
}

func (e *expectations) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut {
		e.seen = append(e.seen, r.Header.Get("Expect"))
	}
	if !e.keep {
		r = r.Clone(r.Context())
		r.Header.Del("Expect")
	}
	return e.next.RoundTrip(r)
}

// Where nobody asks for a body, the next ones do not wait to be asked for.
func TestU25LargeBodyDoesNotWaitWhereNobodyAsks(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		e := &expectations{}
		w.round = func(next http.RoundTripper) http.RoundTripper { e.next = next; return e }
		p := w.pusher(w.server.URL)
		for i := range 3 {
			require.NoError(t, w.pushWith(t.Context(), p, w.local(2<<20+i), ""))
		}
		assert.Equal(t, []string{"100-continue", "", ""}, e.seen)
	})
}

func TestU10LargeBodyWaitsWhereSomebodyAsks(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		e := &expectations{keep: true}
		w.round = func(next http.RoundTripper) http.RoundTripper { e.next = next; return e }
		p := w.pusher(w.server.URL)
		for i := range 2 {
			require.NoError(t, w.pushWith(t.Context(), p, w.local(2<<20+i), ""))
		}
		assert.Equal(t, []string{"100-continue", "100-continue"}, e.seen)
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
		assert.Equal(t, "POST HEAD DELETE POST HEAD DELETE HEAD HEAD HEAD HEAD", w.fromAll("library/other", blobs...))
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
		assert.Equal(t, "POST POST HEAD DELETE POST POST HEAD DELETE POST", w.fromAll("library/other", blobs...))
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
		assert.Equal(t, "POST POST HEAD DELETE POST HEAD DELETE HEAD HEAD", w.fromAll("library/other", blobs...))
	})
}
