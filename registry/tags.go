package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/wire"
)

// maxTags is how many tags a list in memory may have.
const maxTags = 100_000

// Tags returns the tags of the repository, in the registry's order. A list of more than 100,000 tags is
// [transfer.ErrProtocol], for which there is [Repository.AllTags]; the other errors are those of
// [Repository.Manifest].
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var tags []string
	for tag, err := range r.AllTags(ctx) {
		if err != nil {
			return nil, err
		}
		if len(tags) == maxTags {
			return nil, fmt.Errorf("%w: %s has more than %d tags",
				transfer.ErrProtocol, r.opts.Repository, maxTags)
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// AllTags returns the tags of the repository, in the registry's order, page by page: the next page is asked
// for when the tags of the one before were taken. However many there are, only those of one page are kept.
//
// An error is the last pair, with an empty tag. The errors are those of [Repository.Manifest]. A list that
// cannot be read to its end, or that never ends, is [transfer.ErrProtocol]: there are more than came.
func (r *Repository) AllTags(ctx context.Context) iter.Seq2[string, error] {
	return r.list(ctx, toPull, "../tags/list", "tags")
}

// Repositories returns the names of all repositories that a registry lists (its catalog), page by page as
// [Repository.AllTags] does. Docker Hub and others list none, or only to some people, and say so with a
// [*transfer.StatusError]. Options.Repository is not needed.
func Repositories(ctx context.Context, opts Options) iter.Seq2[string, error] {
	if opts.Repository == "" {
		opts.Repository = "_" // Open wants one
	}
	repo, err := Open(opts)
	if err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return func(yield func(string, error) bool) {
		defer repo.CloseIdleConnections()
		repo.list(ctx, toList, repo.up()+"_catalog", "repositories")(yield)
	}
}

// list returns the names in the field of the pages of a list, which is at a place relative to a manifest.
func (r *core) list(ctx context.Context, a access, place, field string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		stopped := false
		err := r.with(ctx, a, func(ctx context.Context, c *call) error {
			page, err := r.near(place)
			if err != nil {
				return err
			}
			return c.pages(ctx, page, func(ans *calls.Answer) (int, bool, error) {
				names, err := readNames(ans, field)
				for _, name := range names {
					if stopped = !yield(name, nil); stopped {
						break
					}
				}
				return len(names), stopped, err
			})
		})
		what := field
		if a != toList { // else they are of no repository
			what += " of " + r.opts.Repository
		}
		if err != nil && !stopped {
			yield("", fmt.Errorf("%s: %w", what, err))
		}
	}
}

// readNames returns the names on a page. The field is there, but null where there are none.
func readNames(a *calls.Answer, field string) (names []string, err error) {
	var page map[string]json.RawMessage
	isPage := manifest.IsObject(a.Data) && !wire.LooksLikeWebPage(a.Header)
	if !isPage || json.Unmarshal(a.Data, &page) != nil || page[field] == nil ||
		json.Unmarshal(page[field], &names) != nil {
		return nil, a.Broken("the answer is not a list of %s", field)
	}
	return names, nil
}
