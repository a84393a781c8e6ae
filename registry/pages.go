package registry

import (
	"context"
	"net/http"
	"net/url"

	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Bounds of a list, to keep a server from filling memory or never ending.
const (
	maxPage       = 4 << 20 // 4 MiB
	maxEmptyPages = 1_000   // in a row
	maxSeenPages  = 10_000  // that are known not to come again
)

// pages fetches the pages of a list one after the other. Read returns how many entries are on one, and
// whether to stop. It reads the answers with the expected statuses too. A page that comes again, and many
// without an entry, are [transfer.ErrProtocol].
func (c *call) pages(
	ctx context.Context, page wire.Target, read func(*calls.Answer) (n int, stop bool, err error),
	expected ...int,
) error {
	seen, empty := make(map[url.URL]bool), 0
	for !page.IsZero() {
		ans, next, err := c.page(ctx, page, expected)
		if err != nil {
			return err
		}
		n, stop, err := read(ans)
		if err != nil || stop {
			return err
		}
		if empty++; n > 0 {
			empty = 0
		}
		if len(seen) == maxSeenPages {
			clear(seen)
		}
		seen[*page.URL] = true
		if !next.IsZero() && (seen[*next.URL] || empty == maxEmptyPages) {
			return ans.Broken("the next page was there before, or nothing is on %d pages", empty)
		}
		page = next
	}
	return nil
}

// page fetches one page, and finds where the next one is. A header that cannot be read is no last page.
func (c *call) page(
	ctx context.Context, page wire.Target, expected []int,
) (ans *calls.Answer, next wire.Target, err error) {
	err = c.Retry(ctx, page, func(ctx context.Context, b *retry.Budget) error {
		ans, err = c.Send(ctx, wire.Request{Method: http.MethodGet, Target: page}, b, maxPage, expected...)
		return err
	})
	if err != nil {
		return nil, wire.Target{}, err
	}
	link, err := wire.NextLink(ans.Header)
	switch {
	case err != nil:
		return nil, wire.Target{}, ans.Broken("%w", err)
	case link == "":
		return ans, wire.Target{}, nil
	}
	next, err = ans.Target.NextPage(link)
	return ans, next, err
}
