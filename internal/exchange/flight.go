package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

// ErrUnanswered goes with a stall after all of the request was sent and before anything of the answer came:
// the server may have needed longer.
var ErrUnanswered = errors.New("no answer in time")

// ErrHeld ends a request that may be made elsewhere when its host has asked to be left alone.
var ErrHeld = errors.New("asks to be left alone")

// flight is one request, from before it is sent until the body of its answer is closed.
type flight struct {
	x     *Exchange
	req   Request
	watch *watchdog.Watch

	room   *Room       // its own, or the caller's
	sent   atomic.Bool // all of the request was sent, its body too
	begun  atomic.Bool // bytes of the answer's body have come
	tokens tokenUse
	trial  atomic.Pointer[trial] // nil: the request tries no password out
	ended  sync.Once

	// In one piece with the rest, because each would be an allocation for each request.
	own    Room
	trace  httptrace.ClientTrace
	answer answerBody
	resp   Response
}

// context returns the context that the request is sent with. For a request without a body, it notes when that
// was sent.
func (f *flight) context() context.Context {
	if f.req.Body != nil {
		return f.watch.Context()
	}
	f.trace.WroteRequest = func(info httptrace.WroteRequestInfo) {
		f.sent.Store(info.Err == nil)
		f.room.slot.Load().Asked()
	}
	return httptrace.WithClientTrace(f.watch.Context(), &f.trace)
}

// before waits until a request, or what it was redirected to, may be sent, and returns the token for it.
func (f *flight) before(to wire.Target) (token string, err error) {
	host := to.URL.Host
	f.sent.Store(false)
	if f.trial.Load() != nil { // who is redirected was let in
		f.x.Tokens.accept(f)
		f.x.Tokens.judged(f, nil)
	}
	if err := f.awaitHold(host); err != nil {
		return "", err
	}
	if to.Left || !f.req.AskFirst {
		if err := f.acquire(host); err != nil {
			return "", err
		}
	}
	if to.Left {
		return "", nil
	}
	return f.x.Tokens.take(f.watch.Context(), f)
}

// roomForAnswer waits for room for the body of an answer that came in place of an expected redirect.
func (f *flight) roomForAnswer(resp *wire.Response) error {
	if !f.req.AskFirst || Failed(resp.StatusCode) {
		return nil
	}
	return f.acquire("")
}

// awaitHold waits until a host may be asked.
func (f *flight) awaitHold(host string) error {
	wait := f.x.holds.left(host)
	if wait <= 0 {
		return nil
	}
	if f.req.Elsewhere {
		return fmt.Errorf("%s %w for another %v", host, ErrHeld, wait.Truncate(time.Millisecond))
	}
	if b := f.req.Budget; b != nil && wait > b.Left() {
		return retry.TooLong(host, wait, b.Left())
	}
	f.watch.Hold()
	defer f.watch.Release()
	return retry.Sleep(f.watch.Context(), wait)
}

// acquire waits for room where the request needs some and has none, and then for a host that has asked
// meanwhile to be left alone. Neither wait is a stall.
func (f *flight) acquire(host string) error {
	if f.req.Room <= 0 || f.x.Bodies == nil || f.room.slot.Load() != nil {
		f.ready()
		return nil
	}
	f.watch.Hold()
	defer f.watch.Release()
	for {
		if err := f.awaitRoom(); err != nil {
			return err
		}
		if host == "" || f.x.holds.left(host) <= 0 {
			f.ready()
			return nil
		}
		f.room.Close()
		if err := f.awaitHold(host); err != nil {
			return err
		}
	}
}

// awaitRoom waits for room. That nobody has any is not the fault of the blob, whose budget stands still.
func (f *flight) awaitRoom() error {
	if b := f.req.Budget; b != nil {
		b.End()
		defer b.Begin()
	}
	slot, err := f.x.Bodies.Acquire(f.watch.Context(), f.req.Room)
	f.watch.Restart()
	if err != nil {
		return err
	}
	slot.OnRecall(f.req.OnRecall)
	f.room.slot.Store(slot)
	return nil
}

func (f *flight) ready() {
	if f.req.OnRoom != nil {
		f.req.OnRoom()
	}
}

// end ends the flight. It returns err or, where that came from the watchdog, its reason.
func (f *flight) end(err error) error {
	f.ended.Do(func() {
		f.x.Tokens.judged(f, nil)
		err = f.unanswered(f.watch.End(err))
		if f.req.Keep == nil {
			f.room.Close()
		}
	})
	return err
}

// unanswered marks a stall for which the server may be the reason and not the network.
func (f *flight) unanswered(err error) error {
	stalled := errors.Is(err, watchdog.ErrStalled) && !errors.Is(err, ErrUnanswered)
	if stalled && f.sent.Load() && !f.begun.Load() {
		return fmt.Errorf("%w: %w", err, ErrUnanswered)
	}
	return err
}

// judge marks an error of the network that says something else here than it does elsewhere.
func (x *Exchange) judge(err error) error {
	dns, ok := errors.AsType[*net.DNSError](err)
	if !ok || !dns.IsNotFound {
		return err
	}
	op, ok := errors.AsType[*net.OpError](err)
	viaProxy := ok && op.Op == "proxyconnect" && !x.Answers.none() // that answers have come through
	if viaProxy || x.Answered(dns.Name) {
		return retry.Transient(err) // a host that has answered exists: it is the network that is broken
	}
	return err
}

// bodies returns a function that opens the request's body, each time that it is to be sent.
func (f *flight) bodies(open func() (io.ReadCloser, error), length int64) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f.sent.Store(false)
		f.watch.Allow(0)
		if err := f.acquire(""); err != nil {
			return nil, err
		}
		f.watch.Hold() // what lies before the body may be hashed first
		defer f.watch.Release()
		body, err := open()
		if err != nil {
			return nil, err
		}
		return &requestBody{body: body, f: f, left: length}, nil
	}
}

// requestBody is the body of a request.
type requestBody struct {
	body io.ReadCloser
	f    *flight
	left int64
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p[:b.f.x.Rate.Chunk(int64(len(p)))])
	b.left -= int64(n)
	if n > 0 && b.left == 0 {
		b.f.sent.Store(true)
		b.f.watch.Allow(b.f.req.AnswerTime)
		defer b.f.room.Close() // others may send while the registry digests this one
	}
	if paid := b.f.moved(n); paid != nil && (err == nil || err == io.EOF) {
		err = paid
	}
	return n, err
}

func (b *requestBody) Close() error { return b.body.Close() }

// answerBody is the body of an answer.
type answerBody struct {
	body   io.ReadCloser
	f      *flight
	failed bool // the answer is a failure
	broken error
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p[:b.f.x.Rate.Chunk(int64(len(p)))])
	if n > 0 && !b.f.begun.Swap(true) {
		b.f.watch.Allow(0) // it has begun, and is to go on
	}
	if b.failed {
		b.f.watch.Moved(n) // what a failure says tells nothing of how fast bodies move
	} else if paid := b.f.moved(n); paid != nil && err == nil {
		err = paid
	}
	if err != nil && err != io.EOF {
		err = b.f.unanswered(b.f.watch.Reason(err))
		b.broken = err
	}
	return n, err
}

// Close gives the room back and ends the watch.
func (b *answerBody) Close() error {
	err := b.body.Close()
	_ = b.f.end(b.broken)
	return err
}
