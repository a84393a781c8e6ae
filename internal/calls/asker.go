package calls

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Asker sends small requests, whose answers are read whole.
type Asker struct {
	Exchange     *exchange.Exchange
	RetryTimeout time.Duration
	Log          *slog.Logger
}

// Retry makes attempts at a request to the target until one succeeds, one fails for good, or RetryTimeout is
// over.
func (a *Asker) Retry(
	ctx context.Context, target wire.Target, attempt func(context.Context, *retry.Budget) error,
) error {
	loop := retry.Loop{
		Answered:   func() bool { return a.Exchange.Answers.Has(target.Host()) },
		Overloaded: func() {},
		Log:        a.Log,
	}
	budget := retry.NewBudget(a.RetryTimeout)
	return loop.Run(ctx, budget, wire.Redact(target.URL), func(ctx context.Context) (bool, error) {
		return false, attempt(ctx, budget)
	})
}

// Send sends a request once and reads its answer. A status that says that it failed is an error, unless it is
// one of those expected. More than limit bytes are [sentinel.ErrProtocol].
func (a *Asker) Send(
	ctx context.Context, r wire.Request, b *retry.Budget, limit int64, expected ...int,
) (*Answer, error) {
	resp, err := a.Exchange.Do(ctx, exchange.Request{Request: r, MaySlow: true, Budget: b})
	if err != nil {
		return nil, err
	}
	if exchange.Failed(resp.StatusCode) && !slices.Contains(expected, resp.StatusCode) {
		defer resp.Body.Close()
		return nil, a.Exchange.Error(resp)
	}
	return Read(resp, limit)
}

// Answer is an answer that was read.
type Answer struct {
	*exchange.Response

	Data []byte // its body
}

// Read reads an answer and closes it. More than limit bytes are [sentinel.ErrProtocol].
func Read(resp *exchange.Response, limit int64) (*Answer, error) {
	defer resp.Body.Close()
	a := &Answer{Response: resp}
	var err error
	a.Data, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.What(), err)
	}
	if int64(len(a.Data)) > limit {
		return nil, a.Broken("more than %d bytes", limit)
	}
	return a, nil
}

// What names the request.
func (a *Answer) What() string { return a.Request.Method + " " + wire.Redact(a.Target.URL) }

// Broken returns the error of an answer that a registry does not give.
func (a *Answer) Broken(format string, args ...any) error {
	return retry.Permanent(fmt.Errorf("%w: %s: %d, but %w (is this a registry?)",
		sentinel.ErrProtocol, a.What(), a.StatusCode, fmt.Errorf(format, args...)))
}
