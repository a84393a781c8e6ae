package pull_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/watchdog"
)

// portions is a body that comes in portions of ten bytes, each after a pause.
type portions struct {
	io.Reader
	pause time.Duration
}

func (p portions) Read(b []byte) (int, error) {
	time.Sleep(p.pause)
	return p.Reader.Read(b[:min(len(b), 10)])
}

// writes counts how often something was written.
type writes struct {
	bytes.Buffer
	count int
}

func (w *writes) Write(p []byte) (int, error) {
	w.count++
	return w.Buffer.Write(p)
}

// Small portions cost few writes when they come fast, and are stored as they come when they are slow.
func TestSmallPortionsAreGathered(t *testing.T) {
	for name, c := range map[string]struct {
		pause time.Duration
		count int
	}{"fast": {time.Millisecond, 1}, "slow": {time.Second, 5}} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t)
			body := part(0, 100)
			body.body = portions{body.body, c.pause}
			w.answers = []answer{body}
			var got writes
			require.NoError(t, w.request.Fetch(t.Context(), &got))
			assert.Equal(t, content(0, 100), got.String())
			assert.Equal(t, c.count, got.count)
		})
	}
}

func TestBudgetIsFullAgainWithNewBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		time.Sleep(time.Minute)
		assert.Equal(t, tryAgain, w.verdict(says(503, "")))
		assert.Equal(t, w.blob.Budget.Timeout()-time.Minute, w.blob.Budget.Left())
		w.fetched(part(0, 100))
		assert.Equal(t, w.blob.Budget.Timeout(), w.blob.Budget.Left())
	})
}

// takingOver lets another worker take all that is left of the piece when the first bytes have been stored.
type takingOver struct {
	w    *world
	left string
}

func (o *takingOver) Write(p []byte) (int, error) {
	o.left += string(p)
	o.w.request.Piece.Finish() // as far as this worker can tell
	return len(p), nil
}

// What another worker has taken is not stored, and the rest of the body not read.
func TestPieceThatIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		body := part(0, 100)
		body.body = portions{body.body, time.Second}
		w.answers = []answer{body}
		o := &takingOver{w: w}
		require.NoError(t, w.request.Fetch(t.Context(), o))
		assert.Equal(t, content(0, 20), o.left, "two portions came within the time that is waited for more")
	})
}

// A server that scans a blob before the first byte, anew for each request, is waited for twice as long each
// time, within the budget of five minutes. Once a byte has come, the wait is as long as at first.
func TestN44WaitForTheFirstByteDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWorld(t)
		go w.dog.Run(ctx)
		silent := says(503, "")
		silent.before = func(r *http.Request) { <-r.Context().Done() }
		silent.err = context.Canceled
		silent.wrote = true
		for _, seconds := range []float64{10, 20, 40, 80, 150, 10} {
			began := time.Now()
			_, err := w.fetch(silent)
			require.ErrorIs(t, err, watchdog.ErrStalled)
			assert.InDelta(t, seconds, time.Since(began).Seconds(), 1)
		}
		assert.Equal(t, tryAgain, w.verdict(part(0, 100).cut(50)))
		began := time.Now()
		_, err := w.fetch(silent)
		require.ErrorIs(t, err, watchdog.ErrStalled)
		assert.InDelta(t, 10, time.Since(began).Seconds(), 1)
		cancel()
	})
}

// Where a source serves no ranges, what lies before the piece comes again. Meanwhile nobody is idle.
func TestE19BytesThatAreReadAgainSpendNoBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pieces.Range{Start: 350, End: 400})
		a := whole()
		a.body = portions{io.MultiReader(io.LimitReader(a.body, 300), brokenReader{}), 30 * time.Second}
		w.blob.Budget.Begin()
		assert.Equal(t, tryAgain, w.verdict(a))
		assert.InDelta(t, w.blob.Budget.Timeout(), w.blob.Budget.Left(), float64(time.Minute))
	})
}
