package transfer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/events"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/watchdog"
)

const (
	// maxRetries is how often a registry is tried that has not answered once in this call. It keeps its name:
	// the tests of programs that have a copy of this package use it.
	maxRetries = retry.MaxTries

	// defaultStallTimeout keeps its name too.
	defaultStallTimeout = calls.DefaultStallTimeout
	defaultRetryTimeout = calls.DefaultRetryTimeout
)

// Limiter caps the speed of several calls together, such as all of a program; each gets a fair part. It is
// safe for concurrent use. The zero value caps nothing.
type Limiter struct{ rate *pace.Limiter }

// NewLimiter returns a limiter of that many bytes per second. Zero or less means no cap.
func NewLimiter(bytesPerSecond int64) *Limiter { return &Limiter{pace.New(bytesPerSecond)} }

// Reader returns a reader of r whose bytes count as those of a call: of what a program moves itself, such as
// a blob that it streams by package registry. A Read that waits for the cap ends with ctx.
func (l *Limiter) Reader(ctx context.Context, r io.Reader) io.Reader {
	return l.shared().Reader(ctx, r)
}

// shared is nil where nothing is capped.
func (l *Limiter) shared() *pace.Limiter {
	if l == nil {
		return nil
	}
	return l.rate
}

// newLoop returns the loop that makes the attempts of a call at its blobs and its manifest.
func newLoop(x *exchange.Exchange, bodies *pace.BodyLimiter, log *slog.Logger) *retry.Loop {
	return &retry.Loop{
		Answered:   func() bool { return x.Answers.Has(x.Registry.Host()) },
		Overloaded: bodies.Overloaded,
		Unhurried:  isNoLoad,
		Log:        log,
	}
}

// isNoLoad tells the errors that say nothing of how many bodies a server takes: a connection was slow beside
// others, there was no token, or the disk has failed.
func isNoLoad(err error) bool {
	_, disk := errors.AsType[*fs.PathError](err)
	return disk || watchdog.IsSlow(err) || exchange.NeedsLogin(err)
}

// tracedLoop returns the loop that makes the attempts at a blob, and reports those that another follows. The
// host is the one that was asked last.
func (c *call) tracedLoop(b *events.Blob, host func() string) *retry.Loop {
	if b == nil {
		return c.retry
	}
	loop := *c.retry
	loop.Retrying = func(attempt int, wait time.Duration, err error) { b.Retry(host(), attempt, wait, err) }
	return &loop
}

// backoff waits after attempt number attempt, counted from 0, for at most longest. It returns the cause of
// the context when that ends first. It keeps its name: the tests of programs that have a copy of this package
// use it.
func backoff(ctx context.Context, attempt int, longest time.Duration) error {
	return retry.Sleep(ctx, retry.Delay(attempt, longest))
}
