package pull_test

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pace"
)

// redirected returns a world whose registry has sent the first piece to an object store.
func redirected(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.fetched(to("store.test"), part(0, 100))
	w.next()
	w.requests()
	return w
}

func TestRedirectIsRemembered(t *testing.T) {
	w := redirected(t)
	w.fetched(part(100, 200))
	assert.Equal(t, []string{"store.test bytes=100-199"}, w.requests())
	w.next()
	assert.Equal(t, tryAgain, w.verdict(says(503, "")))
	w.fetched(to("other.test"), part(200, 300))
	assert.Equal(t, []string{"store.test"}, w.redirects, "it is told once that the registry redirects")
}

// refusals are the lasting statuses with which stores refuse a URL whose signature has expired.
func refusals() map[string]answer {
	return map[string]answer{
		"400": says(400, "<Error><Code>ExpiredToken</Code></Error>"),
		"401": says(401, ""), "403": says(403, ""), "404": says(404, ""), "410": says(410, ""),
	}
}

func TestN40RememberedURLIsRefused(t *testing.T) {
	for name, refusal := range refusals() {
		t.Run(name, func(t *testing.T) {
			w := redirected(t)
			assert.Equal(t, anotherWay, w.verdict(refusal))
			w.fetched(to("store.test"), part(100, 200))
			assert.Equal(t, []string{
				"store.test bytes=100-199", "registry.test bytes=100-199", "store.test bytes=100-199",
			}, w.requests())
		})
	}
}

// A cache before the registry may hand out old URLs, but not for ever.
func TestN40NewURLIsRefused(t *testing.T) {
	for name, refusal := range refusals() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			assert.Equal(t, anotherWay, w.verdict(to("store.test"), refusal))
			answers := []answer{to("store.test"), refusal}
			if refusal.status == 400 || refusal.status == 403 { // N49: it may be the range that is refused
				answers = append(answers, answers...)
			}
			_, err := w.fetch(answers...)
			assert.Equal(t, permanently, verdictOf(err))
			var status *statusError
			require.ErrorAs(t, err, &status)
			assert.Equal(t, refusal.status, status.status)
		})
	}
}

func TestN40BytesComeBetweenTwoRefusals(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, anotherWay, w.verdict(to("store.test"), says(403, "")))
	assert.Equal(t, tryAgain, w.verdict(to("store.test"), part(0, 100).cut(50)))
	assert.Equal(t, tryAgain, w.verdict(says(503, "")), "which has the URL forgotten")
	assert.Equal(t, anotherWay, w.verdict(to("store.test"), says(403, "")))
	assert.Equal(t, permanently, w.verdict(to("store.test"), says(403, "")))
}

// Each piece may find its URL too old once.
func TestN40EachPieceMayBeRefused(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, anotherWay, w.verdict(to("store.test"), says(403, "")))
	w.fetched(to("store.test"), part(0, 100))
	w.next()
	assert.Equal(t, anotherWay, w.verdict(says(403, "")))
	w.fetched(to("store.test"), part(100, 200))
	w.next()
	assert.Equal(t, anotherWay, w.verdict(says(403, "")))
}

// The registry's own refusal is final, also at the end of a redirect that leads back to it.
func TestN21RegistryRefuses(t *testing.T) {
	w := newWorld(t)
	refused := says(403, "")
	assert.Equal(t, permanently, w.verdict(refused, refused))
	w = newWorld(t)
	there, back := to("store.test"), to("registry.test")
	assert.Equal(t, permanently, w.verdict(there, back, refused, there, back, refused))
}

// A host that is dead is one of several: its URL goes with its first failure.
func TestN41RememberedHostFails(t *testing.T) {
	for name, failure := range map[string]answer{
		"dead": fails(errBroken), "503": says(503, ""), "521": says(521, ""),
		"no byte": part(100, 200).cut(0),
	} {
		t.Run(name, func(t *testing.T) {
			w := redirected(t)
			assert.Equal(t, tryAgain, w.verdict(failure))
			w.fetched(to("other.test"), part(100, 200))
			assert.Equal(t, []string{
				"store.test bytes=100-199", "registry.test bytes=100-199", "other.test bytes=100-199",
			}, w.requests())
		})
	}
}

func TestN41HostFailsOnItsFirstUse(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, tryAgain, w.verdict(to("dead.test"), part(0, 100).cut(0)))
	w.fetched(to("other.test"), part(0, 100))
	assert.Equal(t, []string{
		"registry.test bytes=0-99", "dead.test bytes=0-99",
		"registry.test bytes=0-99", "other.test bytes=0-99",
	}, w.requests())
}

func TestN41HostThatBroughtBytesIsKept(t *testing.T) {
	w := redirected(t)
	assert.Equal(t, tryAgain, w.verdict(part(100, 200).cut(50)))
	w.fetched(part(150, 200))
	assert.Equal(t, []string{"store.test bytes=100-199", "store.test bytes=150-199"}, w.requests())
}

// What another worker has resolved meanwhile is newer than the URL that was refused.
func TestN40NewerURLIsKept(t *testing.T) {
	w := redirected(t)
	refused := says(403, "")
	refused.before = func(*http.Request) { w.another(fails(errBroken), to("fresh.test"), part(200, 300)) }
	assert.Equal(t, anotherWay, w.verdict(refused))
	w.requests()
	w.fetched(part(100, 200))
	assert.Equal(t, []string{"fresh.test bytes=100-199"}, w.requests())
}

// A URL that others still use is forgotten with its first failure all the same.
func TestN41URLThatAnotherWorkerUses(t *testing.T) {
	w := redirected(t)
	broken := fails(errBroken)
	broken.before = func(*http.Request) { w.another(part(200, 300)) }
	assert.Equal(t, tryAgain, w.verdict(broken))
	w.requests()
	w.fetched(to("other.test"), part(100, 200))
	assert.Equal(t, "registry.test bytes=100-199", w.requests()[0])
}

// another fetches the next piece, in two attempts at the most, as another worker does.
func (w *world) another(answers ...answer) {
	w.t.Helper()
	job, ok, err := w.schedule.Next(w.t.Context())
	require.True(w.t, ok)
	require.NoError(w.t, err)
	defer job.Piece.Finish()
	w.answers = answers
	r := w.fetchOf(job.Piece)
	if r.Fetch(w.t.Context(), io.Discard) != nil {
		require.NoError(w.t, r.Fetch(w.t.Context(), io.Discard))
	}
}

// Asking where a blob is needs no slot, except where a URL has expired while the request waited for a slot.
func TestN40URLIsAskedForWhenThereIsASlot(t *testing.T) {
	failed, refused := says(503, ""), says(403, "")
	for name, c := range map[string]struct {
		before [][]answer // of attempts that fail
		waits  bool
	}{
		"after a failure":     {[][]answer{{failed}}, false},
		"N40 after a refusal": {[][]answer{{refused}}, true},
		"after bytes came": {
			[][]answer{{refused}, {to("store.test"), part(100, 200).cut(50)}, {failed}}, false,
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t)
			w.bodies = pace.NewBodyLimiter(1, true)
			w.begin()
			w.fetched(to("store.test"), part(0, 100))
			w.next()
			for _, attempt := range c.before {
				_, err := w.fetch(attempt...)
				require.Error(t, err)
			}
			slot, err := w.bodies.Acquire(t.Context(), 1)
			require.NoError(t, err)
			w.requests()
			w.answers = []answer{to("store.test"), part(w.request.Piece.Pos(), 200)}
			done := make(chan error)
			go func() { done <- w.request.Fetch(t.Context(), io.Discard) }()
			synctest.Wait()
			assert.Equal(t, c.waits, len(w.requests()) == 0, "the registry waits for a slot too")
			slot.Release()
			require.NoError(t, <-done)
		})
	}
}

// The URL is that of the moment in which the slot is got: another request may have been refused meanwhile, or
// have found out where the blob is.
func TestN40URLIsChosenWhenThereIsASlot(t *testing.T) {
	refused := says(403, "")
	for name, c := range map[string]struct {
		first []answer   // to the requests before
		mine  [][]answer // to the request that waits: while it does, and then
		slot  []answer   // to the request that has the slot
		then  []string   // what is requested in the end
	}{
		"a remembered URL was refused": {
			[]answer{to("store.test"), part(0, 100)}, [][]answer{nil, {to("fresh.test"), part(200, 300)}},
			[]answer{refused},
			[]string{"registry.test bytes=200-299", "fresh.test bytes=200-299"},
		},
		"another URL of the store was refused": {
			[]answer{to("store.test"), part(0, 100), fails(errBroken)},
			[][]answer{{to("old.test")}, {to("fresh.test"), part(200, 300)}},
			[]answer{to("store.test"), refused},
			[]string{
				"registry.test bytes=200-299", "registry.test bytes=200-299", "fresh.test bytes=200-299",
			},
		},
		"a URL became known": {
			[]answer{part(0, 100)}, [][]answer{nil, {part(200, 300)}},
			[]answer{to("store.test"), part(100, 200)},
			[]string{"store.test bytes=200-299"},
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t)
			w.bodies = pace.NewBodyLimiter(1, true)
			w.begin()
			w.fetched(c.first[:min(2, len(c.first))]...)
			w.next()
			for _, a := range c.first[min(2, len(c.first)):] {
				assert.Equal(t, tryAgain, w.verdict(a))
			}
			job, _, err := w.schedule.Next(t.Context())
			require.NoError(t, err)
			done := make(chan error, 1)
			last := &c.slot[len(c.slot)-1]
			last.before = func(*http.Request) {
				w.answers, w.requested = c.mine[0], nil
				go func() {
					done <- w.fetchOf(job.Piece).Fetch(t.Context(), io.Discard)
				}()
				synctest.Wait()
				w.answers = c.mine[1]
			}
			w.answers = c.slot
			_ = w.request.Fetch(t.Context(), io.Discard)
			require.NoError(t, <-done)
			assert.Equal(t, c.then, w.requests())
		})
	}
}

// That others get bytes of the blob meanwhile does not have a request wait for a slot with a URL in its
// hands again.
func TestE1RefusedURLIsAskedForWhenThereIsASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.bodies = pace.NewBodyLimiter(1, true)
		w.begin()
		w.fetched(to("store.test"), part(0, 100))
		w.next()
		assert.Equal(t, anotherWay, w.verdict(says(403, "")))
		mine := w.request
		other := func() {
			job, _, err := w.schedule.Next(t.Context())
			require.NoError(t, err)
			w.request = w.fetchOf(job.Piece)
		}
		other()
		w.fetched(to("store.test"), part(200, 300))
		other()
		assert.Equal(t, tryAgain, w.verdict(says(503, "")), "which has the URL forgotten")
		w.request = mine
		slot, err := w.bodies.Acquire(t.Context(), 1)
		require.NoError(t, err)
		w.requests()
		w.answers = []answer{to("store.test"), part(100, 200)}
		done := make(chan error)
		go func() { done <- w.request.Fetch(t.Context(), io.Discard) }()
		synctest.Wait()
		assert.Empty(t, w.requests(), "it waits for a slot first")
		slot.Release()
		require.NoError(t, <-done)
	})
}
