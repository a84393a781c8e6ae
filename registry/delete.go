package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/referrers"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Delete deletes the manifest under a digest, and with it all its tags, or a tag alone. Blobs stay until the
// registry collects its garbage. Where the registry has no referrers API, a manifest that has a
// subject is taken off the list under the referrers tag too. A nil error means that the registry has
// confirmed it, or does not have it any more.
//
// The errors are those of [Repository.Manifest]: 404 where there is no such manifest, and often 405 or 400
// where the registry does not delete, or does not delete tags.
func (r *Repository) Delete(ctx context.Context, ref string) error {
	if err := manifest.CheckReference(ref); err != nil {
		return err
	}
	err := r.with(ctx, toDelete, func(ctx context.Context, c *call) error { return c.delete(ctx, ref) })
	if err != nil {
		return fmt.Errorf("manifest %s: %w", ref, err)
	}
	return nil
}

func (c *call) delete(ctx context.Context, ref string) error {
	subject, err := c.subjectOf(ctx, ref)
	if err != nil {
		return err
	}
	target := c.repo.manifestAt(ref)
	request := wire.Request{Method: http.MethodDelete, Target: target}
	answerLost := false // and the attempt may have arrived
	err = c.Retry(ctx, target, func(ctx context.Context, b *retry.Budget) error {
		ans, err := c.Send(ctx, request, b, maxManifest)
		switch {
		case answerLost && isNotFound(err):
			return nil
		case err != nil:
			_, answered := errors.AsType[*transfer.StatusError](err)
			answerLost = answerLost || !answered
			return err
		case wire.LooksLikeWebPage(ans.Header):
			return ans.Broken("the answer is not that of a registry")
		case ans.StatusCode == http.StatusAccepted, ans.StatusCode == http.StatusNoContent:
			return nil
		}
		return c.confirmDeleted(ctx, ans, ref)
	})
	if err != nil || subject == "" {
		return err
	}
	return c.lists().Remove(ctx, subject, digest.Digest(ref))
}

// confirmDeleted checks that a manifest is not there any more where the answer does not say so: the
// distribution specification has 202, others send 204, and anything sends 200.
func (c *call) confirmDeleted(ctx context.Context, ans *calls.Answer, ref string) error {
	switch err := c.probe(ctx, ref); {
	case isNotFound(err):
		return nil
	case err != nil:
		return err
	}
	return ans.Broken("the manifest is still there")
}

// subjectOf returns the subject of the manifest under a digest whose referrers the registry does not list
// itself. A tag has none: what it names stays.
func (c *call) subjectOf(ctx context.Context, ref string) (digest.Digest, error) {
	if !strings.Contains(ref, ":") {
		return "", nil
	}
	m, err := c.manifestFrom(ctx, []*source{{registry: c.repo.registry}}, ref)
	switch {
	case errors.Is(err, ErrManifest), errors.Is(err, transfer.ErrProtocol),
		errors.Is(err, transfer.ErrDigestMismatch):
		return "", nil // what cannot be read can be deleted
	case err != nil:
		return "", err
	}
	subject, _, err := referrers.Subject(ref, m.Data, m.MediaType)
	if err != nil || subject == "" {
		return "", nil
	}
	if _, err = c.referrers(ctx, subject, ""); errors.Is(err, errNoAPI) {
		return subject, nil
	}
	return "", err
}
