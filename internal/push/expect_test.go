package push_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

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
