package registry

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// PutManifest pushes a manifest or an index under a tag or a digest; with an empty ref, under its
// digest. A zero MediaType is found out from the bytes. What the manifest names must be there already:
// see [transfer.Upload], which pushes blobs and then a manifest. A nil error means that the registry
// has confirmed it.
//
// The errors are those of [Repository.Manifest]. Where a registry has refused the manifest, its
// [*transfer.StatusError] says why.
func (r *Repository) PutManifest(ctx context.Context, ref string, m Manifest) error {
	ref = cmp.Or(ref, digest.FromBytes(m.Data).String())
	if err := checkRef(ref); err != nil {
		return err
	}
	if want := digest.Digest(ref); want.Validate() == nil && want.Algorithm().FromBytes(m.Data) != want {
		return fmt.Errorf("%w: the manifest to push is not %s", transfer.ErrDigestMismatch, ref)
	}
	mediaType := cmp.Or(m.MediaType, manifest.MediaType(m.Data))
	req := wire.Request{
		Method: http.MethodPut, Target: r.registry.Manifest(r.opts.Repository, ref), Length: int64(len(m.Data)),
		Header: http.Header{"Content-Type": {mediaType}},
		Body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.Data)), nil },
	}
	err := r.with(ctx, toPush, func(ctx context.Context, c *call) error {
		return c.retry(ctx, req.Target, func(ctx context.Context, b *retry.Budget) error {
			ans, err := c.send(ctx, req, b, maxManifest)
			if err != nil {
				return err
			}
			return ans.confirm(m.Data)
		})
	})
	if err != nil {
		return fmt.Errorf("manifest %s: %w", ref, err)
	}
	return nil
}

// confirm checks that the answer to a PUT says that the registry has the manifest: 200 alone may be the
// front page of something else.
func (a *answer) confirm(data []byte) error {
	named := namedDigest(a.Header)
	switch {
	case named != "" && named.Algorithm().FromBytes(data) != named:
		return retry.Permanent(fmt.Errorf("%w: %s: the registry has it as %s",
			transfer.ErrDigestMismatch, a.what(), named))
	case a.StatusCode == http.StatusCreated, a.StatusCode == http.StatusAccepted, named != "":
		return nil
	}
	return a.broken("the manifest is not confirmed")
}
