package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/modeltransfer/transfer"
)

const (
	// maxRetries is how often a server is tried that has not answered once: its name is more likely misspelt
	// than about to come back.
	maxRetries = 6

	firstDelay    = 200 * time.Millisecond
	maxDelay      = 30 * time.Second
	maxRetryAfter = 2 * time.Minute
)

// retry makes attempts until one succeeds, fails for good, or RetryTimeout is over.
func (r *Repository) retry(ctx context.Context, attempt func() error) error {
	begun, answered := time.Now(), false
	for n := 0; ; n++ {
		err := attempt()
		if err == nil || !retryable(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var after retryAfterError
		answered = errors.As(err, &after) || answered
		left := r.opts.RetryTimeout - time.Since(begun)
		if left <= 0 || after.wait > left || n+1 >= maxRetries && !answered {
			return permanentError{fmt.Errorf("%w: %w", transfer.ErrRetriesExhausted, err)}
		}
		wait := after.wait
		if wait == 0 {
			wait = min(delay(n), left)
		}
		r.log.LogAttrs(ctx, slog.LevelWarn, "attempt failed, trying again", slog.Int("attempt", n+1),
			slog.Duration("wait", wait), slog.Any("error", err))
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func retryable(err error) bool {
	var (
		status *transfer.StatusError
		dns    *net.DNSError
		cert   *tls.CertificateVerificationError
	)
	switch {
	case isPermanent(err), errors.Is(err, transfer.ErrRedirectRefused), errors.Is(err, transfer.ErrProtocol),
		errors.Is(err, transfer.ErrDigestMismatch), errors.Is(err, errNoMethod), errors.As(err, &cert):
		return false
	case errors.As(err, &status):
		return status.Temporary()
	case errors.As(err, &dns):
		return !dns.IsNotFound
	}
	return !strings.Contains(err.Error(), http.StatusText(http.StatusProxyAuthRequired)) &&
		!strings.Contains(err.Error(), "server response headers exceeded")
}

func delay(attempt int) time.Duration {
	d := min(maxDelay, firstDelay<<min(attempt, 20))
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func parseRetryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, min(date.Sub(now), maxRetryAfter))
}
