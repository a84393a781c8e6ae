package push_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// refusesWhole makes the registry answer each PUT that has a body with a status.
func (w *world) refusesWhole(status int) {
	w.before(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || r.ContentLength == 0 {
			return false
		}
		rw.WriteHeader(status)
		return true
	})
}

// A registry that opens sessions and takes bodies with PATCH alone is sent the next blobs so at once.
func TestU29WholeIsRefusedAndPatchIsNot(t *testing.T) {
	type test struct{ status, size int }
	var tests []test
	for _, status := range []int{400, 404, 405, 501} {
		tests = append(tests, test{status, 1000}, test{status, 3 << 20}, test{status, 9 << 20})
	}
	registrytest.Each(t, registrytest.Named(tests...), func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		w.refusesWhole(c.status)
		p := w.pusher(w.server.URL)
		for i := range 3 {
			b := w.local(c.size + i)
			w.moved.Store(0)
			require.NoError(t, w.pushWith(t.Context(), p, b, ""))
			w.requireStored(b)
		}
		for _, r := range w.reg.Requests() {
			if r.Method == http.MethodPatch {
				assert.Equal(t, "1", r.Header.Get("X-Redirect-Uploads"))
			}
		}
		refused := 1
		if c.status == http.StatusNotFound {
			refused = 2 // the first may be of a session that was lost
		}
		assert.Equal(t, 3+refused, w.reg.Count("PUT", ""), "PUT with a body, and of none for each blob")
	})
}

// Of several blobs at once, one finds out.
func TestU29SeveralBlobsAtOnce(t *testing.T) {
	type test struct{ status, size int }
	var tests []test
	for _, status := range []int{400, 404, 405, 501} {
		tests = append(tests, test{status, 1001}, test{status, 3 << 20})
	}
	registrytest.Each(t, registrytest.Named(tests...), func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		w.refusesWhole(c.status)
		blobs := []blob{w.local(1000)}
		w.first = blobs[0].digest
		for i := range 6 {
			blobs = append(blobs, w.local(c.size+i))
		}
		require.NoError(t, w.pushAll("", blobs...))
		for _, b := range blobs {
			assert.True(t, w.reg.Has(repository, b.digest))
		}
		refused := 1
		if c.status == http.StatusNotFound {
			refused = 2 // the first may be of a session that was lost
		}
		assert.Equal(t, len(blobs)+refused, w.reg.Count("PUT", ""))
	})
}

// A registry that takes PATCH alone may not read the body of a PUT, and take it for one of no bytes.
func TestU29WholeIsNotRead(t *testing.T) {
	cases := registrytest.Named(1000, 3<<20, 9<<20)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, size int) {
		w := newWorld(t, mode, registrytest.Options{})
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.ContentLength == 0 || r.Method != http.MethodPut && r.Method != http.MethodPost {
				return false
			}
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(rw, `{"errors":[{"code":"DIGEST_INVALID"}]}`)
			return true
		})
		b := w.local(size)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
	})
}

// Where PATCH is refused as well, the last refusal is the error, soon.
func TestU29U27EveryWayIsRefused(t *testing.T) {
	cases := registrytest.Named(400, 404, 405, 501)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, status int) {
		w := newWorld(t, mode, registrytest.Options{})
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut && r.Method != http.MethodPatch {
				return false
			}
			rw.WriteHeader(status)
			return true
		})
		var refused *statusError
		require.ErrorAs(t, w.push(w.local(10<<20), ""), &refused)
		assert.Equal(t, status, refused.Status)
		assert.LessOrEqual(t, w.reg.Count("PUT", "")+w.reg.Count("PATCH", ""), 8)
		assert.Zero(t, w.reg.Sessions())
	})
}

// GHCR takes no chunk of more than 4 MiB, and says so with 416. A whole body that breaks is continued in
// chunks.
func TestU27ChunksAreTooLarge(t *testing.T) {
	type test struct {
		status int
		most   int64
	}
	var tests []test
	for _, status := range []int{400, 403, 405, 416, 422, 501} {
		tests = append(tests, test{status, 4 << 20}, test{status, 2 << 20})
	}
	registrytest.Each(t, registrytest.Named(tests...), func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPatch || r.ContentLength <= c.most {
				return false
			}
			rw.WriteHeader(c.status)
			_, _ = io.WriteString(rw, "request body is too large")
			return true
		})
		w.reg.Fault("PUT", "", "reset(1M)")
		p := w.pusher(w.server.URL)
		b := w.local(12 << 20)
		require.NoError(t, w.pushWith(t.Context(), p, b, ""))
		w.requireStored(b)
		assert.Equal(t, 1, w.reg.Count("POST", ""), "the session is gone on with")

		refused := w.reg.Count("PATCH", "")
		w.reg.Fault("PUT", "", "reset(1M)")
		b = w.local(11 << 20)
		w.moved.Store(0)
		require.NoError(t, w.pushWith(t.Context(), p, b, ""))
		w.requireStored(b)
		assert.Less(t, w.reg.Count("PATCH", "")-refused, refused, "the size is remembered")
	})
}

// Where no chunk is taken, whatever its size, all goes with one PUT in a new session.
func TestU27NoChunkIsTaken(t *testing.T) {
	cases := registrytest.Named(400, 403, 404, 405, 406, 415, 416, 422, 501)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, status int) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PATCH", "", "**"+itoa(int64(status)))
		p := w.pusher(w.server.URL)
		push := func(size int) (chunks int) {
			before := w.reg.Count("PATCH", "")
			w.reg.Fault("PUT", "", "reset(1M)")
			b := w.local(size)
			w.moved.Store(0)
			require.NoError(t, w.pushWith(t.Context(), p, b, ""))
			w.requireStored(b)
			return w.reg.Count("PATCH", "") - before
		}
		assert.Positive(t, push(12<<20))
		assert.Zero(t, push(11<<20), "it is remembered")
	})
}

// A chunk that is refused for being out of step is no chunk that is too large.
func TestU27OutOfStepIsNotTooLarge(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", "reset(1M)")
		w.reg.Fault("GET", "", "header(-range; range: 0-99)") // and then it says 1 MiB
		w.reg.Fault("PATCH", "", "416")
		b := w.local(12 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.Equal(t, 2, w.reg.Count("PATCH", ""))
		assert.Equal(t, 1, w.reg.Count("POST", ""))
	})
}

// A body may be refused for its size by what is behind a proxy that has passed on all of it.
func TestU11BodyThatIsRefusedAfterItHasArrived(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", "swallow+413")
		b := w.local(9 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.Equal(t, b.size(), w.reg.BytesReceived())
	})
}
