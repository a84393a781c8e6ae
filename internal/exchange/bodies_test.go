package exchange_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

var errNoToken = errors.New("no token")

// newWorld checks in the end that all bodies were closed.
func TestBodyOfEachAnswerIsClosed(t *testing.T) {
	again := func(context.Context, exchange.Challenge) (string, error) { return "second", nil }
	refuse := func(context.Context, exchange.Challenge) (string, error) { return "", errNoToken }
	for name, c := range map[string]struct {
		get     exchange.GetToken
		answers answers
		fails   bool
	}{
		"a success":                {nil, answers{says(200, "blob")}, false},
		"a redirect":               {nil, answers{to("store.test"), to("other.test"), says(200, "")}, false},
		"a redirect to nowhere":    {nil, answers{says(307, "")}, true},
		"a failure":                {nil, answers{says(500, "sorry")}, true},
		"a token that was renewed": {again, answers{challenged("s"), says(200, "")}, false},
		"no token":                 {refuse, answers{challenged("s")}, true},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, c.get, inTurn(c.answers...))
			err := w.ask(w.get())
			assert.Equal(t, c.fails, err != nil, err)
			w.requireSlot()
		})
	}
}

// The call ends while an answer that has come waits for a slot.
func TestBodyOfAnAnswerWithoutASlotIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, inTurn(says(200, "blob")))
		defer w.occupy().Release()
		r := w.get()
		r.AskFirst = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.Do(ctx, r)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestSlotIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, inTurn(says(200, "blob")))
		resp, err := w.Do(t.Context(), w.get())
		require.NoError(t, err)
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.False(t, w.bodies.SlotFree(), "until the body is closed")
		require.NoError(t, resp.Body.Close())
		w.requireSlot()
	})
}

func TestSlotIsGivenBackWhereNothingAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })
		require.ErrorIs(t, <-w.start(w.get()), io.ErrUnexpectedEOF)
		w.requireSlot()
	})
}

// Others may send while the registry digests a body.
func TestSlotIsGivenBackWhenTheBodyIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		w = newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
			assert.False(t, w.bodies.SlotFree())
			_, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			w.requireSlot()
			return says(201, ""), nil
		})
		require.NoError(t, <-w.start(w.put("blob")))
	})
}

// A transport sends a body again by itself where a connection breaks that it has used before.
func TestN37BodyThatIsSentAgainHasASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		w = newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
			_, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			again, err := r.GetBody()
			assert.NoError(t, err)
			assert.False(t, w.bodies.SlotFree())
			data, err := io.ReadAll(again)
			assert.NoError(t, err)
			assert.Equal(t, "blob", string(data))
			return says(201, ""), nil
		})
		require.NoError(t, <-w.start(w.put("blob")))
		w.requireSlot()
	})
}

// A caller keeps its slot from the request for a URL to the one that uses it.
func TestU17SlotIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, inTurn(says(202, ""), says(201, "")))
		var slot exchange.Slot
		r := w.get()
		r.Keep = &slot
		require.NoError(t, <-w.start(r))
		assert.False(t, w.bodies.SlotFree(), "the caller has it still")
		require.NoError(t, <-w.start(r), "and nobody waits for it")
		slot.Close()
		w.requireSlot()
	})
}

// silence is a body of which nothing more comes.
type silence struct {
	io.Reader
	ctx context.Context
}

func (s silence) Read(p []byte) (int, error) {
	if n, _ := s.Reader.Read(p); n > 0 {
		return n, nil
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func (silence) Close() error { return nil }

func TestN7StallIsTheErrorOfRead(t *testing.T) {
	for name, c := range map[string]struct {
		body       string
		wait       time.Duration
		unanswered bool
	}{
		"after the first byte": {"b", stallTimeout, false},
		"N44 before it":        {"", stallTimeout + time.Minute, true},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
				httptrace.ContextClientTrace(r.Context()).WroteRequest(httptrace.WroteRequestInfo{})
				resp := says(200, "")
				resp.Body = silence{strings.NewReader(c.body), r.Context()}
				return resp, nil
			})
			r := w.get()
			r.AnswerTime = time.Minute
			resp, err := w.Do(t.Context(), r)
			require.NoError(t, err)
			began := time.Now()
			_, err = io.ReadAll(resp.Body)
			require.ErrorIs(t, err, watchdog.ErrStalled)
			assert.Equal(t, c.unanswered, errors.Is(err, exchange.ErrUnanswered))
			assert.InDelta(t, c.wait.Seconds(), time.Since(began).Seconds(), 0.5)
			require.NoError(t, resp.Body.Close())
			w.requireSlot()
		})
	}
}

// No answer may be the fault of the server only when it has all of the request.
func TestN8StallBeforeTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		reads      int64
		unanswered bool
	}{"all of the body was sent": {4, true}, "half of it was": {2, false}} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
				_, _ = io.CopyN(io.Discard, r.Body, c.reads)
				<-r.Context().Done()
				return nil, r.Context().Err()
			})
			err := <-w.start(w.put("blob"))
			require.ErrorIs(t, err, watchdog.ErrStalled)
			assert.Equal(t, c.unanswered, errors.Is(err, exchange.ErrUnanswered))
			w.requireSlot()
		})
	}
}

// A server that was given all of a request may be given longer to answer it.
func TestU18AnswerMayTakeLonger(t *testing.T) {
	for name, r := range map[string]func(*world) exchange.Request{
		"N44 to a request without a body": (*world).get,
		"U18 to one with a body":          func(w *world) exchange.Request { return w.put("blob") },
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
				if r.Body != nil {
					_, _ = io.ReadAll(r.Body)
				}
				<-r.Context().Done()
				return nil, r.Context().Err()
			})
			request := r(w)
			request.AnswerTime = time.Minute
			began := time.Now()
			require.ErrorIs(t, <-w.start(request), watchdog.ErrStalled)
			assert.InDelta(t, (stallTimeout + time.Minute).Seconds(), time.Since(began).Seconds(), 0.5)
		})
	}
}

// What a failure says tells nothing of how fast blobs move, and is not held up by the cap on their rate.
func TestFailureIsNoBlob(t *testing.T) {
	for name, status := range map[string]int{"success": 200, "failure": 404} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil, inTurn(says(status, strings.Repeat("x", 100))))
			w.Rate = pace.New(10)
			resp, err := w.Do(t.Context(), w.get())
			require.NoError(t, err)
			began := time.Now()
			_, err = io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, status == 404, time.Since(began) < time.Second)
			require.NoError(t, resp.Body.Close())
		})
	}
}

// A server may quote the token that it was shown.
func TestI15TokenInAFailureIsMasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, inTurn(says(403, `{"errors":[{"code":"first","message":"not with first"}]}`)))
		err := w.ask(w.head())
		var status *statusError
		require.ErrorAs(t, err, &status)
		assert.Equal(t, []wire.RegistryError{{Code: "***", Message: "not with ***"}}, status.Errors)
	})
}

// How far away a server is shows between a request and its answer. What went before it, as a slow handshake,
// says nothing about that.
func TestTheWayToAServerIsMeasuredFromTheRequest(t *testing.T) {
	const long = 100 * time.Millisecond
	for name, c := range map[string]struct {
		connecting, answering time.Duration
		far                   bool
	}{
		"a slow handshake": {connecting: long, far: false},
		"a slow answer":    {answering: long, far: true},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
				time.Sleep(c.connecting)
				httptrace.ContextClientTrace(r.Context()).WroteRequest(httptrace.WroteRequestInfo{})
				time.Sleep(c.answering)
				return says(200, "blob"), nil
			})
			w.Bodies = pace.NewBodyLimiter(64, false)
			r := w.get()
			r.SlotFor = 8 << 20
			first := 0
			for range 4 {
				resp, err := w.Do(t.Context(), r)
				require.NoError(t, err)
				defer resp.Body.Close()
				first = cmp.Or(first, w.Bodies.Large())
				_, err = io.ReadAll(resp.Body)
				require.NoError(t, err)
			}
			assert.Equal(t, c.far, w.Bodies.Large() > first)
		})
	}
}
