package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Bounds of a list of tags, to keep a server from filling memory.
const (
	maxTags     = 100_000
	maxTagPages = 1_000
	maxTagPage  = 4 << 20 // 4 MiB
)

// Tags returns the tags of the repository, in the registry's order. A list of more than 100,000 tags is
// [transfer.ErrProtocol]; the other errors are those of [Repository.Manifest].
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var tags []string
	err := r.with(ctx, toPull, func(ctx context.Context, c *call) (err error) {
		tags, err = c.tags(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", r.opts.Repository, err)
	}
	return tags, nil
}

func (c *call) tags(ctx context.Context) (tags []string, err error) {
	r := c.repo
	// A manifest is where "../tags/list" begins, and Resolve keeps the rules of a redirect for the
	// links that follow.
	page, err := r.registry.Manifest(r.opts.Repository, "latest").Resolve("../tags/list")
	for n := 0; err == nil && !page.IsZero(); n++ {
		if n == maxTagPages || len(tags) > maxTags {
			return nil, fmt.Errorf("%w: more than %d pages or %d tags", transfer.ErrProtocol, maxTagPages, maxTags)
		}
		var some []string
		some, page, err = c.tagPage(ctx, page)
		tags = append(tags, some...)
	}
	return tags, err
}

// tagPage fetches one page of the list, and returns where the next one is.
func (c *call) tagPage(
	ctx context.Context, page wire.Target,
) (tags []string, next wire.Target, err error) {
	err = c.Retry(ctx, page, func(ctx context.Context, b *retry.Budget) error {
		ans, err := c.Send(ctx, wire.Request{Method: http.MethodGet, Target: page}, b, maxTagPage)
		if err != nil {
			return err
		}
		tags, next, err = readTags(ans)
		return err
	})
	return tags, next, err
}

func readTags(a *calls.Answer) ([]string, wire.Target, error) {
	var list struct {
		Tags []string `json:"tags"`
	}
	if !manifest.IsObject(a.Data) || json.Unmarshal(a.Data, &list) != nil {
		return nil, wire.Target{}, a.Broken("the answer is not a list of tags")
	}
	link := nextLink(a.Header.Values("Link"))
	if link == "" {
		return list.Tags, wire.Target{}, nil
	}
	next, err := a.Target.Resolve(link)
	return list.Tags, next, err
}

// nextLink returns the target of the link with relation "next" (RFC 8288 section 3), or "".
func nextLink(values []string) string {
	for link := range strings.SplitSeq(strings.Join(values, ","), ",") {
		target, params, ok := strings.Cut(strings.TrimSpace(link), ">")
		target, isLink := strings.CutPrefix(target, "<")
		for param := range strings.SplitSeq(params, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			if ok && isLink && strings.EqualFold(name, "rel") && strings.EqualFold(strings.Trim(value, `"`), "next") {
				return target
			}
		}
	}
	return ""
}
