package registry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/referrers"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// PutManifest pushes a manifest or an index under a tag or a digest; with an empty ref, under its digest. A
// zero MediaType is found out from the bytes. What the manifest names must be there already: see
// [transfer.Upload], which pushes blobs and then a manifest. Where it has a subject and the registry has no
// referrers API, it is added to the list under the referrers tag too (OCI distribution spec, "Pushing
// Manifests with Subject"); see [Repository.Referrers]. A nil error means that the registry has confirmed it.
//
// The errors are those of [Repository.Manifest], and [ErrManifest] for what is no manifest. Where a registry
// has refused the manifest, its [*transfer.StatusError] says why.
func (r *Repository) PutManifest(ctx context.Context, ref string, m Manifest) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	ref = cmp.Or(ref, digest.FromBytes(m.Data).String())
	if err := manifest.CheckPush(ref, m.Data); err != nil {
		return err
	}
	mediaType := cmp.Or(m.MediaType, manifest.MediaType(m.Data))
	if err := manifest.Check(m.Data, mediaType); err != nil {
		return err
	}
	subject, entry, err := referrers.Subject(ref, m.Data, mediaType)
	if err != nil {
		return err
	}
	err = r.with(ctx, toPush, func(ctx context.Context, c *call) error {
		listed, err := c.put(ctx, ref, m.Data, mediaType, subject)
		if err != nil || listed || subject == "" {
			return err
		}
		return c.lists().Add(ctx, subject, entry)
	})
	if err != nil {
		return fmt.Errorf("manifest %s: %w", ref, err)
	}
	return nil
}

// put pushes a manifest. It tells whether the registry lists it among the referrers of its subject.
func (c *call) put(
	ctx context.Context, ref string, data []byte, mediaType string, subject digest.Digest,
) (listed bool, err error) {
	req := wire.Request{
		Method: http.MethodPut, Target: c.repo.manifestAt(ref),
		Header: http.Header{"Content-Type": {mediaType}},
		Data:   data,
	}
	err = c.Retry(ctx, req.Target, func(ctx context.Context, b *retry.Budget) error {
		ans, err := c.Send(ctx, req, b, maxManifest)
		if err != nil {
			return err
		}
		listed = listed || referrers.Listed(ans.Header, subject)
		if err = confirm(ans, data); errors.Is(err, errUnconfirmed) && c.serves(ctx, b, ref, data) {
			err = nil
		}
		return err
	})
	return listed, err
}

// serves tells whether the registry has the manifest under the reference, as far as it tells.
func (c *call) serves(ctx context.Context, b *retry.Budget, ref string, data []byte) bool {
	m, err := c.fetch(ctx, b, &source{registry: c.repo.registry}, ref)
	return err == nil && bytes.Equal(m.Data, data)
}

var errUnconfirmed = errors.New("the manifest is not confirmed")

// confirm checks that the answer to a PUT says that the registry has the manifest: 200 alone may be the
// front page of something else (tart#1275).
func confirm(a *calls.Answer, data []byte) error {
	named := namedDigest(a.Header)
	switch {
	case named != "" && named.Algorithm().FromBytes(data) != named:
		return retry.Permanent(fmt.Errorf("%w: %s: the registry has it as %s",
			transfer.ErrDigestMismatch, a.What(), named))
	case a.StatusCode == http.StatusCreated, a.StatusCode == http.StatusAccepted, named != "":
		return nil
	}
	return a.Broken("%w", errUnconfirmed)
}
