// Package exchange is the only way to send a request. Each request takes the same steps in the same order:
//
//  1. It waits until the host may be asked, where that has sent a Retry-After.
//  2. It waits for a slot, the permission to move a body, where it sends or fetches one.
//  3. It takes the newest token, opens its body, and is sent. The answer is logged.
//  4. Where a redirect leads, these steps are taken again, from the first.
//  5. A Retry-After is noted for the host that answered.
//  6. After a 401 the token is renewed, and the steps are taken again.
//
// The loop is in flight.send. Nothing calls back from here but through [Caller] and [GetToken].
//
// The bodies of a request and of its answer count what moves, keep to the rate, feed the watchdog, and give
// their slot back: a request's when it was sent, an answer's when it is closed. A stall or a slow connection
// is the error of their Read.
package exchange

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

// maxRefreshes is how many new tokens one request may ask for. The first may have been for another scope, or
// have just expired; a registry that refuses a third will refuse them all.
const maxRefreshes = 2

// maxRefusals is how often one request may be refused in all, also with tokens that others were let in with.
// Where a token is good for 40 requests and 160 are in flight, one of four is let in each time, and some are
// unlucky for long.
const maxRefusals = 100

// maxAnswered bounds how many hosts are remembered: redirects must not choose how much memory they take.
const maxAnswered = 4096

// Config says how an exchange sends.
type Config struct {
	Registry *wire.Registry
	Client   *wire.Client
	Watchdog *watchdog.Watchdog
	Bodies   *pace.BodyLimiter // nil: as many bodies as there are
	Rate     *pace.Limiter     // nil: no cap
	Tokens   *Tokens
	Log      *slog.Logger

	// Answers remembers which hosts have answered, where that outlives the call. Nil means that it does not.
	Answers *Answers

	// StatusError makes the error of an answer that is a failure.
	StatusError func(Failure) error
}

// Exchange sends the requests of one call. It is safe for concurrent use.
type Exchange struct {
	Config
	holds
}

// New returns an exchange.
func New(c Config) *Exchange {
	c.Answers = cmp.Or(c.Answers, new(Answers))
	return &Exchange{Config: c}
}

// Answers remembers which hosts have answered: these exist. The zero value remembers none. It is safe for
// concurrent use.
type Answers struct {
	mu    sync.Mutex
	hosts map[string]struct{} // guarded by mu; with the port and without it
}

func (a *Answers) add(u *url.URL) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hosts == nil {
		a.hosts = make(map[string]struct{})
	}
	if len(a.hosts) < maxAnswered {
		a.hosts[u.Host] = struct{}{}
		a.hosts[u.Hostname()] = struct{}{}
	}
}

// Has tells whether a host, with or without its port, has answered.
func (a *Answers) Has(host string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.hosts[host]
	return ok
}

func (a *Answers) none() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.hosts) == 0
}

// Request is a request and what it needs.
type Request struct {
	wire.Request

	// SlotFor is the size in bytes of the body that a slot is needed for, be it the request's or the
	// answer's. Zero means that none is needed.
	SlotFor int64

	// Keep is the caller's slot, which is taken where there is none and not given back at the end. Nil means
	// that the request has its own.
	Keep *Slot

	// AskFirst says that the registry answers with a redirect, for which no slot is needed. It is taken
	// before the redirect is followed, or before the answer is returned.
	AskFirst bool

	// Caller is whom the request is made for. Nil means that nobody wants to know.
	Caller Caller

	// MayRecall says that the slot may be asked back, see [Caller].
	MayRecall bool

	// DigestTime is how long the server may need to hash or copy what it got before it answers: so much later
	// the answer may come, and that time is not counted in the budget.
	DigestTime time.Duration

	// AnswerTime is how much longer than the stall timeout the answer may take, once the whole request was
	// sent.
	AnswerTime time.Duration

	// MaySlow says that the request is not ended for being slow.
	MaySlow bool

	// Blob says that a blob is asked for, which may come as slowly as it does while bytes come. Of any other
	// answer, and of a failure, 4 KiB have to come in each stall timeout.
	Blob bool

	// Elsewhere says that another host may be asked instead. Where one that is to be asked has sent a
	// Retry-After, the request ends with [ErrHeld] and does not wait.
	Elsewhere bool

	// Budget is the retry budget of the blob. Waiting for a slot is not counted. Nil means that there is
	// none.
	Budget *retry.Budget

	// Hint says that the request may be refused for what it asks for, such as a mount from a repository of
	// somebody else: its refusal says nothing of a password.
	Hint bool
}

// Caller is called back while its request is under way.
type Caller interface {
	// Ready is called when there is a slot, before the request is sent that needs it. It returns where that
	// goes: while the slot was waited for, a URL may have expired, or a newer one have become known. Of an
	// answer that has come already, it is told the zero target.
	Ready(to wire.Target) wire.Target

	// Body opens the body of a request that writes from its beginning, each time that it is to be sent. Its
	// error ends the request.
	Body() (io.ReadCloser, error)

	// Recall asks for the slot back, and must not block: so many bodies at once have turned out to be too
	// many. The request is to be ended, and made again later.
	Recall()
}

// Response is the answer at the end of a chain of redirects. Its body must be closed.
type Response struct {
	*wire.Response

	// Watch is the request's. It is to be paused while the answer's body waits for us, perhaps for the disk,
	// and not for the network.
	Watch *watchdog.Watch

	// Sent tells whether the whole body of the request was sent, and Wanted whether the server asked for it
	// (RFC 9110 section 10.1.1).
	Sent, Wanted bool

	// Dialed is how long it took to make the connection of a request without a body. Zero means that it is
	// not known.
	Dialed time.Duration

	flight *flight
}

// Do sends a request. Whatever status the answer has, it is no error. Where the watchdog has ended the
// request, the error is one of [watchdog.ErrStalled] or of [watchdog.IsSlow], and matches [ErrUnanswered]
// where all of a stalled one was sent before.
func (x *Exchange) Do(ctx context.Context, r Request) (*Response, error) {
	f := x.begin(ctx, r)
	resp, err := f.send()
	f.forgive()
	if err != nil {
		if resp != nil {
			_ = resp.Body.Close()
		}
		return nil, f.end(x.ofNetwork(err))
	}
	f.answer = answerBody{body: resp.Body, f: f, blob: r.Blob && !Failed(resp.StatusCode)}
	resp.Body = &f.answer
	f.resp = Response{
		Response: resp, Watch: f.watch, Sent: f.sent.Load(), Wanted: f.wanted.Load(), flight: f,
		Dialed: time.Duration(f.dialed.Load()),
	}
	return &f.resp, nil
}

// log logs an answer, those that redirect too.
func (x *Exchange) log(ctx context.Context, resp *wire.Response) {
	if x.Log.Enabled(ctx, slog.LevelDebug) { // the URL is dear
		x.Log.LogAttrs(ctx, slog.LevelDebug, "answer", slog.String("method", resp.Request.Method),
			slog.String("url", wire.Redact(resp.Target.URL)), slog.Int("status", resp.StatusCode))
	}
}

// note remembers what an answer says about its host.
func (x *Exchange) note(r wire.Request, resp *wire.Response) {
	x.Answers.add(resp.Target.URL)
	if !r.Target.Left { // whoever it sent us to
		x.Answers.add(r.Target.URL)
	}
	if wait := retryAfter(resp); wait > 0 {
		x.hold(resp.Target.Host(), wait)
	}
}

// CloseIdle closes the connections that are idle, so that the next request is sent on a new one.
func (x *Exchange) CloseIdle() { x.Client.Close() }

// Failed tells whether a status is no success. A 3xx that leads nowhere, such as 304, confirms nothing.
func Failed(status int) bool {
	return status >= http.StatusMultipleChoices && !wire.IsRedirect(status)
}
