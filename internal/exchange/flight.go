package exchange

import (
	"context"
	"errors"
	"fmt"
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
	slot  *Slot // its own, or the caller's

	tokens tokenUse
	trial  atomic.Pointer[trial] // nil: the request tries no password out

	linkTime atomic.Int64 // nanoseconds that the answer may take because buffers hold the end of its body

	progress

	// In one piece with the rest, because each would be an allocation for each request.
	own    Slot
	trace  httptrace.ClientTrace
	answer answerBody
	resp   Response
}

// progress is how far a request is.
type progress struct {
	asked  time.Time    // when it was last sent; zero before
	sent   atomic.Bool  // all of it was sent, its body too
	wanted atomic.Bool  // the server has asked for its body
	begun  atomic.Bool  // bytes of the answer's body have come
	dialed atomic.Int64 // nanoseconds that it took to make its connection; zero where that is not known
	ended  sync.Once
	ready  bool // there was a slot, or none is needed
}

// begin returns the flight of a request.
func (x *Exchange) begin(ctx context.Context, r Request) *flight {
	f := &flight{x: x, req: r, watch: x.Watchdog.Watch(ctx, r.MaySlow), slot: r.Keep}
	if f.slot == nil {
		f.slot = &f.own
	}
	if r.Data != nil {
		f.req.Length = int64(len(r.Data))
	}
	if f.req.Length > 0 {
		f.trace.Got100Continue = func() { f.wanted.Store(true) }
		f.trace.GotConn = func(info httptrace.GotConnInfo) { f.watch.Drains(wire.Drained(info.Conn)) }
		return f
	}
	f.watch.Allow(r.DigestTime + r.AnswerTime)
	f.trace.GotConn = func(info httptrace.GotConnInfo) { f.dialed.Store(int64(wire.DialTime(info.Conn))) }
	f.trace.WroteRequest = func(info httptrace.WroteRequestInfo) {
		f.sent.Store(info.Err == nil)
		f.slot.held.Load().Asked(time.Duration(f.dialed.Load()))
	}
	return f
}

// send sends the request, to where redirects lead, and again with new tokens, until there is an answer to
// return.
func (f *flight) send() (*wire.Response, error) {
	ctx := httptrace.WithClientTrace(f.watch.Context(), &f.trace)
	to := f.req.Request
	for refusals := 0; ; {
		if err := f.prepare(&to); err != nil {
			return nil, err
		}
		resp, err := f.x.Client.Send(ctx, to)
		if err != nil {
			return nil, err
		}
		f.x.log(ctx, resp)
		redirected, err := to.Follow(resp)
		if err != nil {
			return nil, err
		}
		if redirected {
			f.redirected()
			continue
		}
		f.x.note(f.req.Request, resp)
		again, err := f.renewed(resp, refusals)
		if err != nil {
			return nil, err
		}
		if !again {
			if f.req.AskFirst && !Failed(resp.StatusCode) { // its body came in place of a redirect
				err = f.await(new(wire.Target), true)
			}
			return resp, err
		}
		to, refusals = f.req.Request, refusals+1
	}
}

// prepare waits until a request may be sent, and gives it the newest token and its body.
func (f *flight) prepare(to *wire.Request) (err error) {
	f.sent.Store(false)
	if err := f.await(&to.Target, to.Target.Left || !f.req.AskFirst); err != nil {
		return err
	}
	if !to.Target.Left {
		if to.Token, err = f.token(f.watch.Context()); err != nil {
			return err
		}
	}
	to.Body, err = f.open()
	to.GetBody, f.asked = f.reopen, time.Now()
	return err
}

// await waits until a host may be asked and, where a body is to move, for a slot. Meanwhile the host may ask
// to be left alone, or another URL become the one to be asked. No wait is a stall. The zero target is that of
// a body whose host was asked before.
func (f *flight) await(to *wire.Target, body bool) error {
	f.watch.Pause()
	defer f.watch.Resume()
	for {
		if err := f.awaitHost(to.Host()); err != nil || !body {
			return err
		}
		if f.req.SlotFor > 0 && f.x.Bodies != nil && f.slot.held.Load() == nil {
			if err := f.acquire(); err != nil {
				return err
			}
			if f.x.Held(to.Host()) > 0 {
				f.slot.Close()
				continue
			}
		} else if f.ready {
			return nil
		}
		f.ready = true
		if f.req.Caller == nil {
			continue
		}
		if other := f.req.Caller.Ready(*to); other.URL != to.URL {
			*to, f.req.Target = other, other // also for when the token is refused
		}
	}
}

// awaitHost waits until a host may be asked.
func (f *flight) awaitHost(host string) error {
	wait := f.x.Held(host)
	if wait <= 0 {
		return nil
	}
	if f.req.Elsewhere {
		return fmt.Errorf("%s %w for another %v", host, ErrHeld, wait.Truncate(time.Millisecond))
	}
	if b := f.req.Budget; b != nil && wait > b.Left() {
		return retry.TooLong(host, wait, b.Left())
	}
	return retry.Sleep(f.watch.Context(), wait)
}

// aside has the watchdog and the budget stand still until the function that it returns is called: meanwhile
// nobody tries.
func (f *flight) aside() (resume func()) {
	f.watch.Pause()
	if f.req.Budget == nil {
		return f.watch.Resume
	}
	f.req.Budget.End()
	return func() {
		f.req.Budget.Begin()
		f.watch.Resume()
	}
}

// acquire waits for a slot. That there is none is not the fault of the blob.
func (f *flight) acquire() error {
	defer f.aside()()
	slot, err := f.x.Bodies.Acquire(f.watch.Context(), f.req.SlotFor)
	f.watch.Restart()
	if err != nil {
		return err
	}
	if f.req.MayRecall {
		slot.OnRecall(f.req.Caller.Recall)
	}
	f.slot.held.Store(slot)
	return nil
}

// renewed tells whether the request is to be sent again, with a token that it did not have.
func (f *flight) renewed(resp *wire.Response, refusals int) (again bool, err error) {
	t := f.x.Tokens
	if resp.Target.Left || refusals == maxRefusals || !t.renewable(f, resp) {
		if !Failed(resp.StatusCode) { // else its Failure says what it means
			t.judged(f, nil)
		}
		return false, nil
	}
	if t.refused(f) {
		return false, nil
	}
	resp.Detach() // the token may be fetched over its connection
	asked := time.Now()
	if err = f.x.renew(f, resp); err == nil && f.req.Budget != nil {
		f.req.Budget.Forgive(time.Since(asked)) // somebody may have had to log in
	}
	if err == nil && t.samePassword(f) {
		return false, nil
	}
	t.judged(f, err)
	return err == nil, err
}

// forgive gives the budget back the time in which bytes of the request's body were on their way, though not
// new ones, and that in which the server may have digested them.
func (f *flight) forgive() {
	b := f.req.Budget
	if b == nil || f.asked.IsZero() || f.req.Length == 0 && f.req.DigestTime == 0 {
		return
	}
	silent := max(0, f.watch.Silent()-time.Duration(f.linkTime.Load())-f.req.DigestTime)
	b.Forgive(max(0, time.Since(f.asked)-silent))
}

// end ends the flight. It returns err or, where that came from the watchdog, its reason.
func (f *flight) end(err error) error {
	f.ended.Do(func() {
		f.x.Tokens.judged(f, nil)
		err = f.unanswered(f.watch.End(err))
		if f.req.Keep == nil {
			f.slot.Close()
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

// ofNetwork marks an error of the network that says something else here than it does elsewhere.
func (x *Exchange) ofNetwork(err error) error {
	dns, ok := errors.AsType[*net.DNSError](err)
	if !ok || !dns.IsNotFound {
		return err
	}
	op, ok := errors.AsType[*net.OpError](err)
	viaProxy := ok && op.Op == "proxyconnect" && !x.Answers.none() // that answers have come through
	if viaProxy || x.Answers.Has(dns.Name) {
		return retry.Transient(err) // a host that has answered exists: it is the network that is broken
	}
	return err
}
