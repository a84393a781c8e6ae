package consumer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// move is pull or push.
type move func(w *world, ctx context.Context, layers []layer, tell func(status)) error

func moves() map[string]move {
	return map[string]move{
		"pull": func(w *world, ctx context.Context, layers []layer, tell func(status)) error {
			w.blobs = w.t.TempDir()
			for _, l := range layers {
				w.stored(repository, l)
			}
			return w.pull(ctx, repository, layers, tell)
		},
		"push": func(w *world, ctx context.Context, layers []layer, tell func(status)) error {
			return w.push(ctx, repository, "latest", layers, manifestOf(w.t, layers...), tell)
		},
	}
}

// eachMove runs a test for both directions and protocols.
func eachMove(t *testing.T, test func(t *testing.T, w *world, do move)) {
	t.Helper()
	for name, do := range moves() {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				test(t, newWorld(t, "registry.test", mode, registrytest.Options{}), do)
			})
		})
	}
}

// The program streams its progress through a channel. When whoever reads it has gone, the context of the call
// ends, and nobody takes from the channel any more.
func TestI17ReaderOfTheProgressHasGone(t *testing.T) {
	eachMove(t, func(t *testing.T, w *world, do move) {
		w.reg.Fault("", "/blobs/", "**slow(1M)")
		layers := []layer{w.local(3 << 20), w.local(4 << 20)}
		channel, gone := make(chan status), make(chan struct{})
		ctx, disconnect := context.WithCancel(t.Context())
		defer disconnect()
		go func() {
			for s := range channel {
				if s.completed > 1<<20 {
					break
				}
			}
			time.Sleep(time.Second) // more is moved meanwhile, and told to nobody
			disconnect()
			close(gone)
		}()
		err := do(w, ctx, layers, func(s status) { channel <- s })
		require.ErrorIs(t, err, context.Canceled)
		<-gone
		<-channel // the call of Progress that nobody read ends at last
		select {
		case <-channel:
			t.Error("progress was told after the call has returned")
		case <-time.After(time.Minute):
		}
		w.reg.Wait()
	})
}

// Also where all is moved, and only the last report is in the way.
func TestI17ReaderHasGoneBeforeTheEnd(t *testing.T) {
	eachMove(t, func(t *testing.T, w *world, do move) {
		layers := []layer{w.local(1000)}
		stuck := make(chan struct{})
		ctx, disconnect := context.WithTimeout(t.Context(), time.Hour)
		defer disconnect()
		begun := time.Now()
		err := do(w, ctx, layers, func(status) { <-stuck })
		require.ErrorIs(t, err, context.DeadlineExceeded, "it was not told that all is there")
		assert.Less(t, time.Since(begun), time.Hour+time.Minute)
		close(stuck)
	})
}

// A reader that is slow delays nothing but itself, and is told the end.
func TestI17SlowReader(t *testing.T) {
	eachMove(t, func(t *testing.T, w *world, do move) {
		layers := many(50, w.local)
		channel, read := make(chan status), make(chan []status)
		go func() {
			var all []status
			for s := range channel {
				time.Sleep(10 * time.Second)
				all = append(all, s)
			}
			read <- all
		}()
		require.NoError(t, do(w, t.Context(), layers, func(s status) { channel <- s }))
		close(channel)
		all := <-read
		last := all[len(all)-1]
		assert.Equal(t, last.total, last.completed)
		assert.Less(t, len(all), 10, "what came meanwhile is told at once")
	})
}

// A program that closes its channel too early finds out: the panic of its callback is its own.
func TestI16ChannelIsClosed(t *testing.T) {
	eachMove(t, func(t *testing.T, w *world, do move) {
		layers := many(10, w.local)
		channel := make(chan status)
		close(channel)
		defer func() {
			err, _ := recover().(error)
			require.ErrorContains(t, err, "send on closed channel")
			w.reg.Wait()
			require.NoError(t, do(w, t.Context(), layers, nil), "all was released")
		}()
		_ = do(w, t.Context(), layers, func(s status) { channel <- s })
	})
}

// What is there already is told, also where nothing is left to do.
func TestProgressTellsWhatIsThere(t *testing.T) {
	eachMove(t, func(t *testing.T, w *world, do move) {
		first, second := w.local(1000), w.local(500)
		require.NoError(t, do(w, t.Context(), []layer{first}, nil))
		blobs := w.blobs
		var book bookkeeper
		again := func(layers []layer) error {
			return w.pull(t.Context(), repository, layers, book.tell)
		}
		if w.reg.Count("PUT", "") > 0 { // it was a push
			again = func(layers []layer) error {
				return w.push(t.Context(), repository, "latest", layers, manifestOf(t, layers...), book.tell)
			}
		}
		require.NoError(t, again([]layer{first}))
		last := book.told[len(book.told)-1]
		assert.Equal(t, status{1000, 1000}, last)

		book.told = nil
		w.stored(repository, second)
		require.NoError(t, again([]layer{first, second, second, first}))
		assert.Equal(t, blobs, w.blobs)
		for _, s := range book.told {
			assert.EqualValues(t, 1500, s.total, "blobs that are listed twice count once")
		}
		assert.EqualValues(t, 1500, book.told[len(book.told)-1].completed)
	})
}

var errUsersReason = errors.New("the user has closed the window")

// The reason why the context was ended is in the error.
func TestCauseOfTheContext(t *testing.T) {
	eachMove(t, func(t *testing.T, w *world, do move) {
		w.reg.Fault("", "/blobs/", "**slow(100K)")
		ctx, cancel := context.WithCancelCause(t.Context())
		layers := []layer{w.local(3 << 20)}
		time.AfterFunc(time.Second, func() { cancel(errUsersReason) })
		err := do(w, ctx, layers, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, errUsersReason)
		w.reg.Wait()
	})
}
