// Package calls is what the calls of package transfer and of package registry have in common: how one begins,
// how it ends, and a small request whose answer is read whole.
package calls

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Defaults of the options.
const (
	DefaultUserAgent    = "modeltransfer/1.0"
	DefaultStallTimeout = 10 * time.Second
	DefaultRetryTimeout = 5 * time.Minute
)

// Places parses the base URLs of a registry and its mirrors, and checks the name of a repository.
func Places(
	baseURL, repository string, mirrorURLs []string,
) (registry *wire.Registry, mirrors []*wire.Registry, err error) {
	if registry, err = wire.ParseRegistry(baseURL); err != nil {
		return nil, nil, err
	}
	for _, m := range mirrorURLs {
		mirror, err := wire.ParseRegistry(m)
		if err != nil {
			return nil, nil, fmt.Errorf("mirror: %w", err)
		}
		mirrors = append(mirrors, mirror.Mirror(registry))
	}
	return registry, mirrors, wire.CheckRepository(repository)
}

// NewStatusError makes the error of an answer that is a failure. Package transfer, whose type that is, sets
// it when the program starts.
var NewStatusError func(exchange.Failure) error

// Open returns an exchange whose requests have the token and renew it with get; a nil get means that a 401 is
// final. The context is that of the call. Call release when it has ended: it waits until nothing is left.
func Open(
	ctx context.Context, c exchange.Config, token string, get exchange.GetToken,
) (x *exchange.Exchange, release func()) {
	c.Tokens, c.StatusError = exchange.NewTokens(ctx, token, get), NewStatusError
	var running sync.WaitGroup
	running.Go(func() { c.Watchdog.Run(ctx) })
	return exchange.New(c), func() {
		running.Wait()
		c.Tokens.Close()
	}
}

// Ended returns the error of a call: where the caller's context has ended, it says so too.
func Ended(caller context.Context, err error) error {
	if err != nil && caller.Err() != nil && !errors.Is(err, caller.Err()) {
		return fmt.Errorf("%w: %w", caller.Err(), err)
	}
	return err
}
