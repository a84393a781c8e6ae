package registry

import (
	"context"
	"fmt"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

// call is one call of a method: what its requests share.
type call struct {
	calls.Asker

	repo *core
}

// manifestAt returns where the manifest under a tag or a digest is.
func (r *core) manifestAt(ref string) wire.Target {
	return r.registry.Manifest(r.opts.Repository, ref)
}

// near returns what is at a place relative to a manifest, such as a list. Where that leads on, the rules of a
// redirect hold.
func (r *core) near(place string) (wire.Target, error) { return r.manifestAt("latest").Resolve(place) }

// usable reports whether a call can be made at all.
func (r *core) usable(ctx context.Context) error {
	switch {
	case r.client == nil:
		return fmt.Errorf("%w: a Repository that was not returned by Open", transfer.ErrInvalidOption)
	case ctx == nil:
		return fmt.Errorf("%w: nil context", transfer.ErrInvalidOption)
	}
	return nil
}

// begin begins a call whose requests have the token and renew it with get; a nil get means that a 401 is
// final. Call release when the context has ended: it waits until nothing of the call is left.
func (r *core) begin(ctx context.Context, token string, get exchange.GetToken) (c *call, release func()) {
	x, end := calls.Open(ctx, exchange.Config{
		Registry: r.registry, Client: r.client, Watchdog: watchdog.New(r.opts.StallTimeout, nil), Log: r.log,
		Answers: &r.answers,
	}, token, get)
	c = &call{calls.Asker{Exchange: x, RetryTimeout: r.opts.RetryTimeout, Log: r.log}, r}
	return c, func() {
		end()
		r.idle.restart(r.client.Close)
	}
}

// run makes a call.
func (r *core) run(
	ctx context.Context, token string, get exchange.GetToken, do func(context.Context, *call) error,
) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	caller := ctx
	ctx, cancel := context.WithCancel(ctx)
	c, release := r.begin(ctx, token, get)
	defer release()
	defer cancel()
	return calls.Ended(caller, do(ctx, c))
}

// with is run with a token that gives that access.
func (r *core) with(ctx context.Context, a access, do func(context.Context, *call) error) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	return r.run(ctx, r.auth.current(a), r.auth.getter(a), do)
}
