package transfer

import (
	"context"
	"time"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// maxRetries is how often a registry is tried that has not answered once in this call.
	maxRetries = retry.MaxTries

	defaultRetryTimeout = 5 * time.Minute
	defaultStallTimeout = 10 * time.Second
)

// Temporary reports whether the same request may succeed later: 408, 425, 429, 500, 502, 503 and 504 (RFC 9110
// section 15), 520 to 524 and 530 of proxies, and 400 where an object store says RequestTimeout.
func (e *StatusError) Temporary() bool {
	f := exchange.Failure{Status: e.StatusCode}
	for _, r := range e.Errors {
		f.Errors = append(f.Errors, wire.RegistryError(r))
	}
	return f.Temporary()
}

// newLoop returns what makes the attempts of a call at its blobs and its manifest.
func (c *call) newLoop() *retry.Loop {
	return &retry.Loop{
		Answered:   func() bool { return c.exchange.Answered(c.registry.Host()) },
		Overloaded: c.bodies.Overloaded,
		Unhurried:  watchdog.IsSlow,
		Log:        c.logger,
	}
}

// backoff waits after attempt number attempt, counted from 0, for at most longest. It returns the cause of the context
// when that ends first.
func backoff(ctx context.Context, attempt int, longest time.Duration) error {
	return retry.Sleep(ctx, retry.Delay(attempt, longest))
}
