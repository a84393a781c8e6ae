package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

const stallTimeout = 10 * time.Second

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// statusError is the error of an answer that is a failure.
type statusError struct{ exchange.Failure }

func (e *statusError) Error() string { return fmt.Sprint(e.Status, e.Errors) }

// inBubble runs a subtest with faked time.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// world is an exchange whose requests are answered by a function, and what it shares with other requests.
type world struct {
	*exchange.Exchange
	t      *testing.T
	target wire.Target
	bodies *pace.BodyLimiter // one at once
	open   atomic.Int32      // bodies of answers that are not closed

	mu   sync.Mutex
	sent []string // guarded by mu: the host and the token of each request
}

// newWorld returns a world in which time passes for the watchdog. It needs a bubble.
func newWorld(t *testing.T, get exchange.GetToken, answer roundTripper) *world {
	t.Helper()
	w := &world{t: t, bodies: pace.NewBodyLimiter(1, true)}
	registry, err := wire.ParseRegistry("http://registry.test")
	require.NoError(t, err)
	w.target = registry.Manifest("library/model", "latest")
	dog := watchdog.New(stallTimeout, nil)
	go dog.Run(t.Context())
	w.Exchange = exchange.New(exchange.Config{
		Registry: registry, Client: wire.NewClient(&http.Client{Transport: w.counting(answer)}, "test", 1),
		Watchdog: dog, Bodies: w.bodies, Tokens: exchange.NewTokens(t.Context(), "first", get),
		Log:         slog.New(slog.DiscardHandler),
		StatusError: func(f exchange.Failure) error { return &statusError{f} },
	})
	t.Cleanup(func() { assert.Zero(t, w.open.Load(), "bodies that were not closed") })
	return w
}

// counting returns a transport that counts which bodies of answers are open.
func (w *world) counting(answer roundTripper) roundTripper {
	return func(r *http.Request) (*http.Response, error) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.mu.Lock()
		w.sent = append(w.sent, strings.TrimSpace(r.URL.Host+" "+token))
		w.mu.Unlock()
		resp, err := answer(r)
		if err != nil {
			return nil, err
		}
		w.open.Add(1)
		resp.Request, resp.Body = r, &countedBody{ReadCloser: resp.Body, open: &w.open}
		return resp, nil
	}
}

type countedBody struct {
	io.ReadCloser
	open   *atomic.Int32
	closed atomic.Bool
}

func (b *countedBody) Close() error {
	if !b.closed.Swap(true) {
		b.open.Add(-1)
	}
	return b.ReadCloser.Close()
}

// get is a request for a body, which needs a slot.
func (w *world) get() exchange.Request {
	return exchange.Request{
		Request: wire.Request{Method: http.MethodGet, Target: w.target}, SlotFor: 1, Blob: true,
	}
}

// head is a request that needs no slot.
func (w *world) head() exchange.Request {
	return exchange.Request{Request: wire.Request{Method: http.MethodHead, Target: w.target}}
}

// put is a request with a body.
func (w *world) put(body string) exchange.Request {
	r := exchange.Request{Request: wire.Request{Method: http.MethodPut, Target: w.target}, SlotFor: 1}
	r.Data = []byte(body)
	return r
}

// ask sends a request whose answer has no body of interest. A failure is an error.
func (w *world) ask(r exchange.Request) error {
	w.t.Helper()
	resp, err := w.Do(w.t.Context(), r)
	if err != nil {
		return err
	}
	if exchange.Failed(resp.StatusCode) {
		defer resp.Body.Close()
		return w.Error(resp)
	}
	resp.Discard()
	return nil
}

// start sends a request in a goroutine, and closes the answer at once.
func (w *world) start(r exchange.Request) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Hour)
		defer cancel()
		resp, err := w.Do(ctx, r)
		if err == nil {
			err = resp.Body.Close()
		}
		done <- err
	}()
	return done
}

// occupy takes the slot of the one body that may move.
func (w *world) occupy() *pace.Slot {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	slot, err := w.bodies.Acquire(ctx, 1)
	require.NoError(w.t, err)
	return slot
}

// requireSlot checks that nobody has the slot.
func (w *world) requireSlot() {
	w.t.Helper()
	w.occupy().Release()
}

// requests returns what was sent since it was last called.
func (w *world) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

func says(status int, body string, header ...string) *http.Response {
	resp := &http.Response{
		StatusCode: status, Header: http.Header{}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// challenged is a 401 that wants a token of a scope.
func challenged(scope string) *http.Response {
	const bearer = `Bearer realm="http://registry.test/t",scope=%q`
	return says(401, "", "WWW-Authenticate", fmt.Sprintf(bearer, scope))
}

// to is a redirect to a host.
func to(host string) *http.Response { return says(307, "", "Location", "http://"+host+"/x") }

// leaveAlone is an answer that asks for a minute of rest.
func leaveAlone() *http.Response { return says(429, "", "Retry-After", "60") }

// answers are given in their order.
type answers []*http.Response

// inTurn returns a transport that gives these answers in their order.
func inTurn(answers ...*http.Response) roundTripper {
	return func(*http.Request) (*http.Response, error) {
		if len(answers) == 0 {
			return nil, errors.New("nobody answers")
		}
		a := answers[0]
		answers = answers[1:]
		return a, nil
	}
}

// asked is for how long an error has a loop wait.
func asked(t *testing.T, err error) time.Duration {
	t.Helper()
	loop := retry.Loop{Answered: func() bool { return true }, Overloaded: func() {}}
	err = loop.Run(t.Context(), retry.NewBudget(time.Second), "x", func(context.Context) (bool, error) {
		return false, err
	})
	var long *retry.LongWait
	require.ErrorAs(t, err, &long)
	return long.Wait
}

func budget() *retry.Budget { return retry.NewBudget(5 * time.Minute) }
