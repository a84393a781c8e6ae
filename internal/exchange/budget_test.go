package exchange_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

// file is who has the body of a request in a file.
type file struct{ open func() io.Reader }

func (f file) Ready(to wire.Target) wire.Target { return to }
func (f file) Body() (io.ReadCloser, error)     { return io.NopCloser(f.open()), nil }
func (file) Recall()                            {}

// putFile is a request whose body of four bytes is in a file.
func (w *world) putFile(open func() io.Reader) exchange.Request {
	r := w.put("")
	r.Data, r.Length, r.Caller = nil, 4, file{open}
	return r
}

// slowReader takes its time for each byte.
type slowReader struct {
	io.Reader
	takes time.Duration
}

func (r slowReader) Read(p []byte) (int, error) {
	time.Sleep(r.takes)
	return r.Reader.Read(p[:min(1, len(p))])
}

// The disk that a body comes from may take as long as it likes.
func TestE9SlowDiskIsNoStallOfAnUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
			data, err := io.ReadAll(r.Body)
			assert.Equal(t, "blob", string(data))
			if err != nil || r.Context().Err() != nil {
				return nil, errors.Join(err, r.Context().Err())
			}
			return says(201, ""), nil
		})
		require.NoError(t, <-w.start(w.putFile(func() io.Reader {
			return slowReader{strings.NewReader("blob"), stallTimeout + 2*time.Second}
		})))
	})
}

// tried makes attempts at a request with a budget of five minutes.
func (w *world) tried(request func() exchange.Request) error {
	w.t.Helper()
	b := budget()
	loop := retry.Loop{
		Answered: func() bool { return true }, Overloaded: func() {}, Log: slog.New(slog.DiscardHandler),
	}
	return loop.Run(w.t.Context(), b, "x", func(context.Context) (bool, error) {
		r := request()
		r.Budget = b
		return false, w.ask(r)
	})
}

// While what lies before a body is hashed, or somebody logs in, nobody tries.
func TestE1TimeThatIsOursSpendsNoBudget(t *testing.T) {
	const long = 10 * time.Minute
	inBubble(t, "hashing", func(t *testing.T) {
		w := newWorld(t, nil, inTurn(says(503, ""), says(201, "")))
		hashed := false
		require.NoError(t, w.tried(func() exchange.Request {
			return w.putFile(func() io.Reader {
				if !hashed {
					time.Sleep(long)
				}
				hashed = true
				return strings.NewReader("blob")
			})
		}))
	})
	inBubble(t, "a log-in", func(t *testing.T) {
		get := func(context.Context, exchange.Challenge) (string, error) {
			time.Sleep(long)
			return "second", nil
		}
		w := newWorld(t, get, inTurn(challenged("s"), says(503, ""), says(200, "")))
		require.NoError(t, w.tried(w.head))
	})
}

// The time in which bytes were on their way is given back where they are those of the request. One that waits
// for its answer while others move brings nothing.
func TestE19OnlyBodiesOfRequestsAreForgiven(t *testing.T) {
	for name, c := range map[string]struct {
		request func(*world) exchange.Request
		left    time.Duration
	}{
		"with a body":    {func(w *world) exchange.Request { return w.put("blob") }, 5 * time.Minute},
		"without a body": {(*world).head, 4 * time.Minute},
	} {
		inBubble(t, name, func(t *testing.T) {
			var other *watchdog.Watch
			w := newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
				if r.Body != nil {
					_, _ = io.ReadAll(r.Body)
				}
				for range 600 {
					other.Moved(1)
					time.Sleep(100 * time.Millisecond)
				}
				return says(503, ""), nil
			})
			other = w.Watchdog.Watch(t.Context(), true)
			r := c.request(w)
			r.Budget = budget()
			r.Budget.Begin()
			require.Error(t, w.ask(r))
			assert.InDelta(t, c.left.Seconds(), r.Budget.Left().Seconds(), 1)
		})
	}
}
