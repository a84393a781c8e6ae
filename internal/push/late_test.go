package push_test

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/retry"
)

// slowCommit is a registry that stores a blob only so long after the request that ends its session has
// arrived, whether somebody still waits for the answer or not. A request to end it again meanwhile waits too.
type slowCommit struct {
	w    *world
	b    blob
	need time.Duration

	mu     sync.Mutex
	first  time.Time // when a commit first arrived
	got    int64     // bytes of bodies
	keeps  bool      // the session tells how much it has
	wholes int
}

func (s *slowCommit) serve(rw http.ResponseWriter, r *http.Request) bool {
	switch r.Method {
	case http.MethodHead:
		if s.stored() {
			s.w.stored(repository, s.b)
		}
		return false
	case http.MethodPut:
		n, _ := io.Copy(io.Discard, r.Body)
		s.arrived(n)
		select {
		case <-r.Context().Done():
		case <-time.After(time.Until(s.first.Add(s.need))):
			s.w.stored(repository, s.b)
			rw.WriteHeader(http.StatusCreated)
		}
		return true
	case http.MethodPatch:
		n, _ := io.Copy(io.Discard, r.Body)
		s.mu.Lock()
		s.got += n
		s.mu.Unlock()
		rw.WriteHeader(http.StatusAccepted)
		return true
	case http.MethodGet:
		if !s.keeps {
			return false
		}
		rw.Header().Set("Range", "0-"+itoa(s.got-1))
		rw.WriteHeader(http.StatusNoContent)
		return true
	}
	return false
}

func (s *slowCommit) arrived(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got += n
	if n > 0 {
		s.wholes++
	}
	if s.first.IsZero() {
		s.first = time.Now()
	}
}

func (s *slowCommit) stored() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.first.IsZero() && time.Since(s.first) >= s.need
}

func TestU18AnswerToTheEndTakesMinutes(t *testing.T) {
	type test struct {
		size    int
		maxBody int64
	}
	cases := map[string]test{
		"whole":           {size: 9 << 20},
		"small and whole": {size: 3 << 20},
		"chunks":          {size: 9 << 20, maxBody: 4 << 20},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(c.size)
		s := &slowCommit{w: w, b: b, need: 3 * time.Minute, keeps: true}
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if c.maxBody > 0 && r.ContentLength > c.maxBody {
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
				return true
			}
			return s.serve(rw, r)
		})
		begun := time.Now()
		require.NoError(t, w.push(b, ""))
		assert.Equal(t, b.size(), s.got, "no byte is sent twice")
		assert.LessOrEqual(t, w.reg.Count("PUT", ""), 8, "the wait doubles")
		assert.Less(t, time.Since(begun), 5*time.Minute)
	})
}

// A registry that digests a large blob before it answers has a second longer for each 16 MiB.
func TestU18AnswerTakesAsLongAsTheDigest(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", "late(11500ms)")
		b := w.local(33 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.Equal(t, "HEAD POST PUT", w.asked(), "and is not asked whether it has the blob")
	})
}

// The answer to a whole body may be lost after it was stored.
func TestU18AnswerToAWholeBodyIsLost(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", "swallow+504")
		b := w.local(3 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.Equal(t, b.size(), w.reg.BytesReceived())
	})
}

// A session that is not known any more may have been ended by a request whose answer was lost.
func TestU18SessionIsEndedMeanwhile(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(9 << 20)
		s := &slowCommit{w: w, b: b, need: time.Hour, keeps: true}
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.Method == http.MethodPut && r.ContentLength > 0:
				n, _ := io.Copy(io.Discard, r.Body)
				s.arrived(n)
				rw.WriteHeader(http.StatusGatewayTimeout)
			case r.Method == http.MethodPut: // it has just got there
				w.stored(repository, b)
				rw.WriteHeader(http.StatusNotFound)
			default:
				return s.serve(rw, r)
			}
			return true
		})
		require.NoError(t, w.push(b, ""))
		assert.Equal(t, b.size(), s.got, "no byte is sent twice")
		assert.Equal(t, 1, w.reg.Count("POST", ""))
	})
}

// The wait for an answer is part of the retry budget.
func TestU18AnswerThatNeverComes(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.timeout = 2 * time.Minute
		b := w.local(9 << 20)
		s := &slowCommit{w: w, b: b, need: time.Hour, keeps: true}
		w.before(s.serve)
		begun := time.Now()
		err := w.push(b, "")
		require.ErrorIs(t, err, retry.ErrExhausted)
		require.ErrorIs(t, err, exchange.ErrUnanswered)
		assert.InDelta(t, 2, time.Since(begun).Minutes(), 0.4, "minutes")
	})
}

// What a session has is found by asking. Until it has answered, nothing is assumed.
func TestRecoverKnowsNothingBeforeItHasAsked(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "swallow+reset")
		w.reg.Fault("HEAD", "", "404->3*503")
		b := w.local(9 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.Equal(t, 1, w.reg.Count("PUT", ""), "the blob had arrived")
		assert.Zero(t, w.reg.Count("PATCH", ""))
	})
}

// slowProxy takes a body at once and passes it on at 1 MiB/s, as far as it gets, also when nobody
// waits for the answer.
type slowProxy struct {
	w     *world
	b     blob
	until int64 // how much it passes on

	mu    sync.Mutex
	begun time.Time
	got   int64 // bytes of bodies
	has   int64 // bytes in the session, without what the proxy has passed on
}

func (s *slowProxy) passed() int64 {
	if s.begun.IsZero() {
		return 0
	}
	return min(s.until, int64(time.Since(s.begun)/time.Second)<<20)
}

func (s *slowProxy) serve(rw http.ResponseWriter, r *http.Request) bool {
	n := drain(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got += n
	have := s.passed() + s.has
	switch {
	case r.Method == http.MethodHead && have == s.b.size():
		s.w.stored(repository, s.b)
		return false
	case r.Method == http.MethodGet && have == s.b.size() && s.has == 0:
		rw.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodGet:
		rw.Header().Set("Range", "0-"+itoa(have-1))
		rw.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPatch && s.passed() < s.until:
		rw.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	case r.Method == http.MethodPatch:
		s.has += n
		rw.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && n > 0:
		s.begun = time.Now()
		s.mu.Unlock()
		<-r.Context().Done()
		s.mu.Lock()
	case r.Method == http.MethodPut:
		s.w.stored(repository, s.b)
		rw.WriteHeader(http.StatusCreated)
	default:
		return false
	}
	return true
}

// What is sent while a proxy still passes on what it has taken would be in the way of that.
func TestU18SessionThatStillGrows(t *testing.T) {
	const size = 80 << 20
	cases := map[string]int64{"to the end": size, "for a time": size / 2}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, until int64) {
		w := newWorld(t, mode, registrytest.Options{})
		w.timeout = time.Minute
		b := w.local(size)
		s := &slowProxy{w: w, b: b, until: until}
		w.before(s.serve)
		require.NoError(t, w.push(b, ""))
		assert.Equal(t, size+(size-until), s.got, "only what the proxy has not passed on is sent again")
		assert.Equal(t, 1, w.reg.Count("POST", ""))
	})
}
