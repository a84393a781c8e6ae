package push

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/content"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// readSize is how much of a file is read at once for a body.
	readSize = 128 << 10 // 128 KiB

	// digestRate is the speed, in bytes per second, at which a registry is trusted to hash or copy a body
	// before it answers. Object stores copy at some 100 MB/s.
	digestRate = 16 << 20 // 16 MiB/s
)

// source is the file of a blob, from which the bodies of its requests are read.
type source struct {
	*item
	file     *content.File
	farthest atomic.Int64  // up to where its bytes have left
	last     atomic.Int64  // up to where those of the last body have
	rewinds  atomic.Int32  // bodies since farthest has grown that began before the end of the last one
	counted  bool          // all of it was told as progress before
	slot     exchange.Slot // for a body, kept from the request for a URL that does not live long
	overdue  overdue
	pending  bool // the last answer was overdue: a proxy may still be passing on what it got
}

// outgoing is the bytes [start, end) of a blob, which a request sends.
type outgoing struct {
	*source
	ctx        context.Context
	host       string // that the request goes to
	start, end int64
	sum        *hash.Hash // becomes that of the bytes that were sent last; nil: nothing does
	began      bool
}

var _ exchange.Caller = (*outgoing)(nil)

// Ready tells, once, that the bytes are about to be sent.
func (o *outgoing) Ready(to wire.Target) wire.Target {
	if !o.began {
		o.trace.Start(o.host, o.start, o.end-o.start)
	}
	o.began = true
	return to
}

// Recall is not called: nothing that was sent is worth sending again.
func (o *outgoing) Recall() {}

// Body returns the bytes. The file is opened for the first of them.
func (o *outgoing) Body() (io.ReadCloser, error) {
	if o.file == nil {
		f, err := o.Open(o.digest, o.size)
		if err != nil {
			return nil, err
		}
		o.file = content.New(f, o.digest, o.size, readSize)
	}
	body, err := o.file.Body(o.ctx, o.start, o.end, o.moved)
	if err != nil {
		return nil, err
	}
	if o.start < o.last.Swap(o.start) { // from now on no other body is read
		o.rewinds.Add(1)
	}
	if o.sum == nil {
		return body, nil
	}
	*o.sum = md5.New()
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(body, *o.sum), body}, nil
}

// moved notes that the next n bytes of the body have left. Those that leave again are no news.
func (s *source) moved(n int) {
	s.trace.Move(n)
	pos, before := s.last.Add(int64(n)), s.farthest.Load()
	if pos <= before {
		return
	}
	s.farthest.Store(pos)
	s.rewinds.Store(0)
	s.budget.Renew()
	s.trace.Complete(pos - before)
	s.report(pos - before)
}

// report tells of n bytes as progress.
func (s *source) report(n int64) {
	if !s.counted {
		s.Moved(n)
	}
}

// wrong returns why the file is not the blob, as far as it was read.
func (s *source) wrong() error {
	if s.file == nil {
		return nil
	}
	switch err := s.file.Err(); {
	case errors.Is(err, content.ErrSize):
		return retry.Permanent(fmt.Errorf("%w: %w", sentinel.ErrSizeMismatch, err))
	case errors.Is(err, content.ErrDigest):
		return retry.Permanent(fmt.Errorf("%w: %w", sentinel.ErrDigestMismatch, err))
	default:
		return err
	}
}

func (s *source) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// send sends the bytes [start, end) of the blob with a request. A 401 or a redirect costs no large body,
// because the server is asked first. Where sum is not nil, it becomes that of the bytes.
func (s *source) send(
	ctx context.Context, r exchange.Request, start, end int64, sum *hash.Hash,
) (answer, error) {
	size := end - start
	r.Caller = &outgoing{source: s, ctx: ctx, host: r.Target.Host(), start: start, end: end, sum: sum}
	r.MaySlow, r.DigestTime, r.AnswerTime = true, digestTime(size), s.late()
	r.SlotFor, r.Keep, r.Length = size, &s.slot, size
	if r.Header == nil {
		r.Header = make(http.Header, 2)
	}
	if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/octet-stream")
	}
	expects := s.capabilities.asking.expects(size)
	if expects {
		r.Header.Set("Expect", "100-continue")
	}
	resp, err := s.Exchange.Do(ctx, r)
	if err == nil && expects && resp.StatusCode == http.StatusExpectationFailed { // RFC 9110 section 10.1.1
		resp.Discard()
		s.capabilities.asking.refused.Store(true)
		r.Header.Del("Expect")
		resp, err = s.Exchange.Do(ctx, r)
	}
	a, err := s.sent(resp, err)
	if err == nil {
		s.trace.From(a.Target.Host())
	}
	switch {
	case err != nil:
	case a.Target.Left && !r.Target.Left, wire.IsRedirect(a.StatusCode):
		s.capabilities.asking.useful.Store(true)
	case !a.failed && a.whole() && expects && !a.Wanted:
		s.capabilities.asking.never.Store(true)
	}
	return a, err
}

// sent reads the answer to a body.
func (s *source) sent(resp *exchange.Response, err error) (answer, error) {
	if wrong := s.wrong(); wrong != nil {
		if err == nil {
			resp.Discard()
		}
		return answer{}, wrong
	}
	if err != nil {
		s.unanswered(err)
		return answer{}, err
	}
	s.pending = false
	if !exchange.Failed(resp.StatusCode) {
		s.overdue = 0
	}
	return s.read(resp), nil
}

// unanswered notes why no answer has come.
func (s *source) unanswered(err error) { s.pending = s.overdue.add(err) }

// late is how much later an answer may come for those that did not come in time.
func (s *source) late() time.Duration {
	return s.overdue.extra(s.Exchange.Watchdog.StallTimeout(), s.budget)
}

// digestTime is how long a registry may take to hash or copy so many bytes.
func digestTime(n int64) time.Duration {
	return time.Duration(float64(n) / digestRate * float64(time.Second))
}

// overdue counts the answers that did not come in time though all was sent. The next one is waited for
// longer: the registry may be busy with what it got, and on a slow link buffers on the way may hold the end
// of it.
type overdue int

// add counts an answer that, as its error says, is overdue, and tells whether it is.
func (o *overdue) add(err error) bool {
	unanswered := errors.Is(err, exchange.ErrUnanswered)
	if unanswered {
		*o++
	}
	return unanswered
}

// extra is how much longer than the stall timeout the next answer may take.
func (o overdue) extra(stall time.Duration, budget *retry.Budget) time.Duration {
	return budget.Longer(stall, int(o))
}
