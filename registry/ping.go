package registry

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// maxPing is how much of the answer to a ping is read. It says nothing.
const maxPing = 64 << 10 // 64 KiB

// Ping asks the registry whether it is one and lets us in (OCI distribution spec, "Determining
// Support"). The token that it takes is for no repository, so that the credentials are judged and not
// what they are good for. Where anonymous access is allowed, nil does not mean that there are
// credentials.
//
// Errors are [ErrUnauthorized], [transfer.ErrProtocol] for what is no registry, and the others of
// [Repository.Manifest].
func (r *Repository) Ping(ctx context.Context) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	root, err := r.near(r.up())
	if err != nil {
		return err
	}
	err = r.with(ctx, toLogIn, func(ctx context.Context, c *call) error {
		return c.Retry(ctx, root, func(ctx context.Context, b *retry.Budget) error {
			ans, err := c.Send(ctx, wire.Request{Method: http.MethodGet, Target: root}, b, maxPing)
			if err == nil && (ans.StatusCode != http.StatusOK || wire.LooksLikeWebPage(ans.Header)) {
				err = ans.Broken("the answer is not that of a registry")
			}
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("registry %s: %w", r.registry.Host(), err)
	}
	return nil
}

// up is the way from a manifest to the API's root.
func (r *core) up() string {
	return strings.Repeat("../", strings.Count(r.opts.Repository, "/")+2)
}
