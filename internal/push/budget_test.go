package push_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/retry"
)

// eachChunk shows a function each chunk that is small enough to be taken, and its number from 1 on. It
// returns true where it has answered.
func (w *world) eachChunk(most int64, see func(rw http.ResponseWriter, r *http.Request, n int32) bool) {
	var chunks atomic.Int32
	w.before(func(rw http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPatch && r.ContentLength <= most && see(rw, r, chunks.Add(1))
	})
}

// A session that is lost late has all sent again. What is taken then renews the budget, or the next fault
// would be the last.
func TestE2ChunksThatAreTakenAgainRenewTheBudget(t *testing.T) {
	const most = 4 << 20
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: most})
		w.timeout = 12 * time.Second
		w.eachChunk(most, func(rw http.ResponseWriter, r *http.Request, n int32) bool {
			time.Sleep(8 * time.Second)
			status := map[int32]int{6: http.StatusNotFound, 11: http.StatusServiceUnavailable}[n]
			if status != 0 {
				drain(r)
				rw.WriteHeader(status)
			}
			return status != 0
		})
		b := w.local(20 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
	})
}

// A session that is lost each time before it has more than ever is no progress.
func TestE2SessionsThatAreLostAgainAndAgain(t *testing.T) {
	const most = 4 << 20
	cases := registrytest.Named(http.StatusNotFound, http.StatusServiceUnavailable)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, status int) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: most})
		w.timeout = 20 * time.Second
		w.reg.Fault("GET", "", "**404")
		w.eachChunk(most, func(rw http.ResponseWriter, r *http.Request, n int32) bool {
			time.Sleep(2 * time.Second)
			if n%3 != 0 {
				return false
			}
			drain(r)
			rw.WriteHeader(status)
			return true
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		require.Error(t, w.pushWith(ctx, w.pusher(w.server.URL), w.local(20<<20), ""))
		require.NoError(t, ctx.Err(), "it ends by itself")
		if status == http.StatusNotFound {
			assert.Equal(t, 4, w.reg.Count("POST", ""))
		}
	})
}

// A proxy may pass on what it got for longer than the retry budget. While the session grows, it does.
func TestE3SessionThatGrowsRenewsTheBudget(t *testing.T) {
	const size = 20 << 20
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.timeout = 20 * time.Second
		b := w.local(size)
		var sent time.Time
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.Method == http.MethodPut && r.ContentLength > 0:
				drain(r)
				sent = time.Now()
				<-r.Context().Done()
			case r.Method == http.MethodPut:
				w.stored(repository, b)
				rw.WriteHeader(http.StatusCreated)
			case r.Method == http.MethodGet:
				have := min(size, int64(time.Since(sent)/time.Second)*256<<10)
				rw.Header().Set("Range", "0-"+itoa(have-1))
				rw.WriteHeader(http.StatusNoContent)
			default:
				return false
			}
			return true
		})
		require.NoError(t, w.push(b, ""))
		assert.Greater(t, time.Since(sent), time.Minute)
	})
}

// A session that says now this and now that gets nowhere.
func TestE3SessionThatAlternates(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.timeout = 2 * time.Second
		var asked atomic.Int32
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			switch r.Method {
			case http.MethodPut, http.MethodPatch:
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done() // all was sent, and no answer comes
			case http.MethodGet:
				rw.Header().Set("Range", []string{"0-8388607", "0-4194303"}[asked.Add(1)%2])
				rw.WriteHeader(http.StatusNoContent)
			default:
				return false
			}
			return true
		})
		begun := time.Now()
		require.ErrorIs(t, w.push(w.local(20<<20), ""), retry.ErrExhausted)
		assert.Less(t, time.Since(begun), 40*time.Second)
	})
}

// A gateway that gives up on a registry which digests a blob has no less time than an answer that is held.
func TestE4GatewayGivesUpOnTheDigest(t *testing.T) {
	const size = 40 << 20 // 2.5 s at 16 MiB/s
	const breaks = 0
	cases := registrytest.Named(http.StatusGatewayTimeout, 524, http.StatusServiceUnavailable, breaks)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, status int) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 20 << 20})
		w.timeout = 500 * time.Millisecond
		b := w.local(size)
		var first time.Time
		var mu sync.Mutex
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || r.ContentLength > 0 {
				return false
			}
			mu.Lock()
			defer mu.Unlock()
			if first.IsZero() {
				first = time.Now()
			}
			if time.Since(first) > 2*time.Second {
				return false
			}
			time.Sleep(200 * time.Millisecond)
			if status == breaks {
				panic(http.ErrAbortHandler)
			}
			rw.WriteHeader(status)
			return true
		})
		err := w.push(b, "")
		if status == http.StatusServiceUnavailable { // it says that it is not at it
			require.ErrorIs(t, err, retry.ErrExhausted)
			return
		}
		require.NoError(t, err)
		w.requireStored(b)
	})
}

// The answer to the end of a large blob is lost, the second time after the registry has digested it for
// longer than RetryTimeout, as it may: it is asked whether the blob is there.
func TestE4AnswerIsLostAfterALongDigest(t *testing.T) {
	const size = 40 << 20 // 2.5 s at 16 MiB/s
	type test struct {
		maxBody int64
		status  int
	}
	cases := map[string]test{
		"whole": {}, "chunks": {maxBody: 20 << 20},
		"whole, 500": {status: 500}, "chunks, 500": {maxBody: 20 << 20, status: 500},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: c.maxBody})
		w.timeout = time.Second
		b := w.local(size)
		var ends atomic.Int32
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || c.maxBody > 0 && r.ContentLength > 0 {
				return false
			}
			drain(r)
			if ends.Add(1) == 1 {
				rw.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			time.Sleep(2 * time.Second)
			w.stored(repository, b)
			if c.status == 0 {
				panic(http.ErrAbortHandler)
			}
			rw.WriteHeader(c.status)
			return true
		})
		require.NoError(t, w.push(b, ""))
		assert.True(t, w.reg.Has(repository, b.digest))
		assert.Equal(t, b.size(), w.moved.Load())
		assert.EqualValues(t, 2, ends.Load())
	})
}

// The time for the answer to a chunk is that for its own bytes, and no longer after one that has come.
func TestE5LostAnswerToAChunkIsNoticedInItsOwnTime(t *testing.T) {
	const most = 1 << 20
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: most})
		b := w.local(32 << 20) // 2 s at 16 MiB/s
		var waits []time.Duration
		w.eachChunk(most, func(_ http.ResponseWriter, r *http.Request, n int32) bool {
			if n != 3 && n != 9 {
				return false
			}
			drain(r)
			begun := time.Now()
			<-r.Context().Done()
			waits = append(waits, time.Since(begun))
			return true
		})
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		require.Len(t, waits, 2)
		for _, wait := range waits {
			assert.InDelta(t, 10, wait.Seconds(), 1, "seconds")
		}
	})
}

// The bytes of a blob that is sent again are new to the registry, though not to Progress.
func TestBlobThatIsSentAgainKeepsItsBudget(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.timeout = 12 * time.Second
		b := w.local(24 << 20)
		w.reg.Fault("PUT", "/uploads/", "slow(1M)+cut(20M)")
		budget := w.budget()
		up := w.pusher(w.server.URL).Again(b.digest, b.size(), budget)
		require.NoError(t, up.Close(t.Context(), w.run(t.Context(), budget, up.Attempt)))
		assert.Zero(t, w.moved.Load(), "progress")
		w.moved.Store(b.size())
		w.requireStored(b)
	})
}
