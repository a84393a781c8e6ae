package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/blobstore"
)

const (
	// maxRetries is how often a registry is tried that has not answered once in
	// this call: it is more likely misspelt than about to come back.
	maxRetries = 6

	backoffStart        = 200 * time.Millisecond
	backoffMax          = 30 * time.Second
	maxRetryAfter       = 2 * time.Minute // a server that asks for more is asked again earlier, and says so again
	defaultRetryTimeout = 5 * time.Minute
)

// Temporary reports whether the same request may succeed later.
func (e *StatusError) Temporary() bool {
	switch e.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout, 522, 524: // the last two are Cloudflare's time-outs
		return true
	}
	return false
}

// retryable reports whether an attempt that failed with err is worth another. What
// is not known to be permanent is: a transport has many ways to fail.
func retryable(err error) bool {
	var (
		status *StatusError
		path   *fs.PathError
		dns    *net.DNSError
		cert   *tls.CertificateVerificationError
		final  permanentError
	)
	switch {
	case errors.Is(err, errOtherWay):
		return true
	case errors.As(err, &final), errors.Is(err, ErrRedirectRefused), errors.As(err, &cert):
		return false
	case errors.As(err, &status):
		return status.Temporary()
	case errors.As(err, &path):
		return blobstore.NoDescriptor(err)
	case errors.As(err, &dns):
		return !dns.IsNotFound
	}
	return !hopeless(err.Error())
}

// hopeless tells the permanent errors of net/http by their text, because they have neither
// a type nor a value: a proxy that wants a password, headers beyond the transport's limit, and a token
// or another header that cannot be sent.
func hopeless(text string) bool {
	return strings.Contains(text, http.StatusText(http.StatusProxyAuthRequired)) ||
		strings.Contains(text, "server response headers exceeded") ||
		strings.Contains(text, "net/http: invalid header field value for")
}

// errOtherWay goes with a permanent error after which another way is left to try: a new
// signed URL, smaller chunks, a new upload session.
var errOtherWay = errors.New("trying another way")

// permanentError is an error that no second attempt will mend.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func permanent(err error) error { return permanentError{err} }

// backoff waits before attempt number attempt, counted from 0, is followed by the
// next; see delay. It returns the cause of the context when that ends first.
func backoff(ctx context.Context, attempt int, max time.Duration) error {
	return sleep(ctx, delay(attempt, max))
}

func delay(attempt int, max time.Duration) time.Duration {
	d := max
	if attempt = min(attempt, 20); attempt >= 0 {
		d = min(max, backoffStart<<attempt)
	}
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// parseRetryAfter parses a Retry-After header, seconds or a date (RFC 9110 section
// 10.2.3), into a wait of at most maxRetryAfter. What cannot be understood is no
// wait.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return maxRetryAfter
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, min(date.Sub(now), maxRetryAfter))
}

// pauses remembers which hosts asked to be left alone until when.
type pauses struct {
	mu    sync.Mutex
	until map[string]time.Time // guarded by mu
}

func (p *pauses) add(host string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until == nil {
		p.until = make(map[string]time.Time)
	}
	if until := time.Now().Add(d); until.After(p.until[host]) {
		p.until[host] = until
	}
}

func (p *pauses) wait(ctx context.Context, host string) error {
	p.mu.Lock()
	until, paused := p.until[host]
	p.mu.Unlock()
	if !paused {
		return nil
	}
	return sleep(ctx, time.Until(until))
}

// patience is how long a blob may go without a new byte, whoever fetches which
// piece of it.
type patience struct {
	digest   string
	attempts atomic.Int64
	last     atomic.Int64 // when the last new byte came, as nanoseconds of the session's clock

	trying atomic.Int32 // attempts that have room for their body
	tried  atomic.Int64 // when the last of them ended, on the same clock
}

// excuse does not count the time from began to now, in which an attempt waited for room, as far as no other attempt for
// the blob had any.
func (p *patience) excuse(began, now time.Duration) {
	if p.trying.Load() > 0 {
		return
	}
	waited := now - max(began, time.Duration(p.tried.Load()))
	p.last.Store(int64(min(now, time.Duration(p.last.Load())+max(0, waited))))
}

// retry makes attempts until one succeeds, fails for good, or the patience is over.
// An attempt tells whether it brought anything new.
func (s *session) retry(ctx context.Context, p *patience, attempt func() (moved bool, err error)) error {
	for n := 0; ; n++ {
		if len(s.mirrors) == 0 { // they are not the ones who want to be left alone
			if err := s.pauses.wait(ctx, s.registry.Host()); err != nil {
				return err
			}
		}
		moved, err := attempt()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if moved {
			n = 0
			p.last.Store(int64(s.clock()))
		}
		if !retryable(err) {
			return err
		}
		if err := s.waitToRetry(ctx, p, n, err); err != nil {
			return err
		}
	}
}

// waitToRetry waits after attempt n failed with cause, or returns
// ErrRetriesExhausted.
func (s *session) waitToRetry(ctx context.Context, p *patience, n int, cause error) error {
	left := s.retryTimeout - (s.clock() - time.Duration(p.last.Load()))
	if left <= 0 || n+1 >= maxRetries && !s.answered.Load() {
		return fmt.Errorf("%w: %w", ErrRetriesExhausted, cause)
	}
	var status *StatusError
	if !errors.Is(cause, errOtherWay) && !errors.Is(cause, errSlow) {
		s.bodies.Overloaded()
	}
	if errors.As(cause, &status) && status.retryAfter > 0 {
		s.log.LogAttrs(ctx, slog.LevelWarn, "registry asks to wait", slog.String("digest", p.digest),
			slog.Int("status", status.StatusCode), slog.Duration("wait", status.retryAfter))
		s.pauses.add(s.registry.Host(), status.retryAfter) // it may be its object store that asks
		return nil
	}
	// Not backoff with at most left: its jitter would halve what is left again and again.
	wait := min(delay(n, backoffMax), left)
	s.log.LogAttrs(ctx, slog.LevelWarn, "attempt failed, trying again", slog.String("digest", p.digest),
		slog.Int("attempt", n+1), slog.Duration("wait", wait), slog.Any("error", cause))
	return sleep(ctx, wait)
}
