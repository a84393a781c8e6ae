package exchange_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// held returns a world whose registry has asked for a minute of rest. Then it answers with what follows.
func held(t *testing.T, answers ...*http.Response) *world {
	t.Helper()
	w := newWorld(t, nil, inTurn(append([]*http.Response{leaveAlone()}, answers...)...))
	err := w.ask(w.head())
	require.Error(t, err)
	require.Equal(t, time.Minute, w.Held("registry.test"))
	w.requests()
	return w
}

func TestN18HoldEndsBeforeTheRequestIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := held(t, says(200, ""))
		began := time.Now()
		require.NoError(t, <-w.start(w.head()))
		assert.Equal(t, time.Minute, time.Since(began), "which is no stall")
	})
}

// Whoever waits for a host takes no slot from those who need not.
func TestN18HoldComesBeforeTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := held(t, says(200, ""))
		done := w.start(w.get())
		synctest.Wait()
		w.occupy().Release()
		assert.Empty(t, w.requests())
		require.NoError(t, <-done)
	})
}

// A host may ask to be left alone while a request to it waits for a slot.
func TestN18HoldWhileARequestWaitsForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, inTurn(leaveAlone(), says(200, "")))
		slot := w.occupy()
		done := w.start(w.get())
		synctest.Wait()
		err := w.ask(w.head())
		require.Error(t, err)
		w.requests()
		began := time.Now()
		slot.Release()
		synctest.Wait()
		assert.Empty(t, w.requests())
		w.occupy().Release()
		require.NoError(t, <-done)
		assert.Equal(t, time.Minute, time.Since(began))
	})
}

// A token may expire while a request waits for a slot.
func TestN23TokenIsTakenWhenThereIsASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		get := func(context.Context, exchange.Challenge) (string, error) { return "second", nil }
		w := newWorld(t, get, inTurn(challenged("s"), says(200, ""), says(200, "")))
		slot := w.occupy()
		done := w.start(w.get())
		synctest.Wait()
		require.NoError(t, <-w.start(w.head()))
		slot.Release()
		require.NoError(t, <-done)
		assert.Equal(t, []string{
			"registry.test first", "registry.test second", "registry.test second",
		}, w.requests())
	})
}

// A redirect within the registry takes all steps again: its token may have expired meanwhile.
func TestN23TokenIsTakenForEachRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		get := func(context.Context, exchange.Challenge) (string, error) { return "second", nil }
		var w *world
		asked := 0
		w = newWorld(t, get, func(r *http.Request) (*http.Response, error) {
			switch asked++; asked {
			case 1: // and another request gets a new token
				require.NoError(t, w.ask(w.head()))
				return to("registry.test"), nil
			case 2:
				return challenged("s"), nil
			}
			return says(200, ""), nil
		})
		require.NoError(t, <-w.start(w.get()))
		assert.Equal(t, []string{
			"registry.test first", "registry.test first", "registry.test second", "registry.test second",
		}, w.requests())
	})
}

// Whom redirects lead round in circles is told so.
func TestRedirectsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, func(*http.Request) (*http.Response, error) { return to("registry.test"), nil })
		require.ErrorIs(t, <-w.start(w.head()), wire.ErrRedirectRefused)
		assert.Len(t, w.requests(), 11)
	})
}

// A redirect needs no slot, what it leads to does.
func TestSlotIsTakenForWhatARedirectLeadsTo(t *testing.T) {
	for name, c := range map[string]struct {
		askFirst bool
		before   []string
	}{
		"a redirect is expected":  {true, []string{"registry.test first"}},
		"no redirect is expected": {false, nil},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil, inTurn(to("store.test"), says(200, "")))
			slot := w.occupy()
			r := w.get()
			r.AskFirst = c.askFirst
			done := w.start(r)
			synctest.Wait()
			assert.Equal(t, c.before, w.requests())
			slot.Release()
			require.NoError(t, <-done)
			w.requireSlot()
		})
	}
}

// An answer that comes in place of a redirect is not read before there is a slot.
func TestSlotIsTakenForAnAnswerInPlaceOfARedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, inTurn(says(200, "blob")))
		slot := w.occupy()
		r := w.get()
		r.AskFirst = true
		done := w.start(r)
		synctest.Wait()
		assert.Len(t, w.requests(), 1)
		assert.Empty(t, done)
		slot.Release()
		require.NoError(t, <-done)
		w.requireSlot()
	})
}

// A Retry-After is of the host that answered.
func TestN46RetryAfterIsNotedByHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, inTurn(to("store.test"), leaveAlone(), to("other.test"), says(200, "")))
		err := w.ask(w.head())
		require.Error(t, err)
		assert.Equal(t, time.Minute, asked(t, err))
		assert.Equal(t, time.Minute, w.Held("store.test"))
		assert.Zero(t, w.Held("registry.test"))
		began := time.Now()
		require.NoError(t, <-w.start(w.head()))
		assert.Zero(t, time.Since(began))
	})
}

// A host that asks for longer is asked again earlier. What it asked for is compared with the budget.
func TestN19HoldIsCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, inTurn(says(503, "", "Retry-After", "600")))
		err := w.ask(w.head())
		assert.Equal(t, 10*time.Minute, asked(t, err))
		assert.Equal(t, retry.MaxAsked, w.Held("registry.test"))
	})
}

// A success may say when it is stale, and a lasting refusal is not for a while.
func TestN18RetryAfterOfOtherAnswersIsNoHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, status := range []int{200, 403, 404} {
			w := newWorld(t, nil, inTurn(says(status, "", "Retry-After", "60")))
			_ = w.ask(w.head())
			assert.Zero(t, w.Held("registry.test"), status)
		}
	})
}

// A wait that the budget does not allow is not begun.
func TestN45HoldBeyondTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := held(t)
		r := w.head()
		r.Budget = retry.NewBudget(59 * time.Second)
		began := time.Now()
		err := <-w.start(r)
		require.ErrorIs(t, err, retry.ErrExhausted)
		assert.False(t, retry.Retryable(err))
		require.ErrorContains(t, err, "registry.test asks to be left alone for 1m0s")
		assert.Zero(t, time.Since(began))
		assert.Empty(t, w.requests())
	})
}

// Waiting for a slot is not the fault of the blob.
func TestBudgetIsNotSpentOnWaitingForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, inTurn(says(200, "")))
		slot := w.occupy()
		r := w.get()
		r.Budget = budget()
		done := w.start(r)
		time.Sleep(time.Hour)
		slot.Release()
		require.NoError(t, <-done)
		assert.Equal(t, r.Budget.Timeout(), r.Budget.Left())
	})
}

// A host that has answered in this call exists, whatever DNS says.
func TestN42HostThatHasAnsweredExists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unknown := &net.DNSError{Err: "no such host", Name: "registry.test", IsNotFound: true}
		known := false
		w := newWorld(t, nil, func(*http.Request) (*http.Response, error) {
			if !known {
				return nil, unknown
			}
			return says(200, ""), nil
		})
		err := <-w.start(w.head())
		require.ErrorIs(t, err, unknown)
		assert.False(t, retry.Retryable(err), "N32 it has never answered")
		known = true
		require.NoError(t, <-w.start(w.head()))
		known = false
		err = <-w.start(w.head())
		require.ErrorIs(t, err, unknown)
		assert.True(t, retry.Retryable(err))
	})
}
