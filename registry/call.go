package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

// call is one call of a method: what its requests share.
type call struct {
	repo *Repository
	x    *exchange.Exchange
}

// run makes a call. Its requests begin with the token and renew it with get; a nil get means that a 401
// is final.
func (r *Repository) run(
	ctx context.Context, token string, get exchange.GetToken, do func(context.Context, *call) error,
) error {
	if ctx == nil {
		return fmt.Errorf("%w: nil context", transfer.ErrInvalidOption)
	}
	defer r.idle.restart(r.client.Close)
	caller := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tokens := exchange.NewTokens(ctx, token, get)
	dog := watchdog.New(r.opts.StallTimeout, nil)
	c := &call{repo: r, x: exchange.New(exchange.Config{
		Registry: r.registry, Client: r.client, Watchdog: dog, Tokens: tokens, Log: r.log, StatusError: statusError,
	})}
	var watch sync.WaitGroup
	watch.Go(func() { dog.Run(ctx) })
	err := unauthorized(do(ctx, c))
	cancel()
	watch.Wait()
	tokens.Close()
	if err != nil && caller.Err() != nil && !errors.Is(err, caller.Err()) {
		err = fmt.Errorf("%w: %w", caller.Err(), err)
	}
	return err
}

// with is run with a token that gives that access.
func (r *Repository) with(ctx context.Context, a access, do func(context.Context, *call) error) error {
	return r.run(ctx, r.auth.current(a), func(ctx context.Context, c exchange.Challenge) (string, error) {
		return r.auth.renew(ctx, transfer.AuthChallenge(c), a)
	}, do)
}

// unauthorized has an error match ErrUnauthorized where the last token was refused.
func unauthorized(err error) error {
	status, ok := errors.AsType[*transfer.StatusError](err)
	if ok && status.StatusCode == http.StatusUnauthorized && !errors.Is(err, ErrUnauthorized) {
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	return err
}

func statusError(f exchange.Failure) error {
	e := &transfer.StatusError{Method: f.Method, URL: f.URL, StatusCode: f.Status}
	for _, told := range f.Errors {
		e.Errors = append(e.Errors, transfer.RegistryError(told))
	}
	return e
}

// retry makes attempts at a request to the host until one succeeds, fails for good, or RetryTimeout is over.
func (c *call) retry(
	ctx context.Context, target wire.Target, attempt func(context.Context, *retry.Budget) error,
) error {
	loop := retry.Loop{
		Answered:   func() bool { return c.x.Answered(target.URL.Host) },
		Overloaded: func() {},
		Log:        c.repo.log,
	}
	budget := retry.NewBudget(c.repo.opts.RetryTimeout)
	return loop.Run(ctx, budget, wire.Redact(target.URL), func() (bool, error) {
		return false, attempt(ctx, budget)
	})
}

// answer is an answer that was read.
type answer struct {
	*exchange.Response

	body []byte
}

// send sends a request and reads its answer. More than limit bytes are [transfer.ErrProtocol].
func (c *call) send(ctx context.Context, r wire.Request, b *retry.Budget, limit int64) (*answer, error) {
	resp, err := c.x.Do(ctx, exchange.Request{Request: r, MaySlow: true, Budget: b})
	if err != nil {
		return nil, err
	}
	if exchange.Failed(resp.StatusCode) {
		return nil, c.x.Error(resp)
	}
	return read(resp, limit)
}

func read(resp *exchange.Response, limit int64) (*answer, error) {
	defer resp.Body.Close()
	ans := &answer{Response: resp}
	var err error
	ans.body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ans.what(), err)
	}
	if int64(len(ans.body)) > limit {
		return nil, ans.broken("more than %d bytes", limit)
	}
	return ans, nil
}

// what says what was answered.
func (a *answer) what() string { return a.Request.Method + " " + wire.Redact(a.Target.URL) }

// broken returns the error of an answer that a registry does not give.
func (a *answer) broken(format string, args ...any) error {
	return retry.Permanent(fmt.Errorf("%w: %s: %d, but %s (is this a registry?)",
		transfer.ErrProtocol, a.what(), a.StatusCode, fmt.Sprintf(format, args...)))
}
