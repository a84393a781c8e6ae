package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/referrers"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Referrers returns the manifests of the repository whose subject is the manifest with that digest, such as
// signatures: those of an artifact type or, with an empty one, all. There need not be such a manifest. The
// registry's API is asked, and where it has none, the list under the referrers tag (OCI distribution spec,
// "Listing Referrers"), which [Repository.PutManifest] and [transfer.Upload] write there.
//
// The errors are those of [Repository.Manifest], and [transfer.ErrProtocol] for a list of more than 100,000.
// Without such a list there are no referrers, and no error.
func (r *Repository) Referrers(ctx context.Context, subject, artifactType string) ([]Descriptor, error) {
	dg, err := manifest.ParseDigest(subject)
	if err != nil {
		return nil, err
	}
	var list []Descriptor
	err = r.with(ctx, toPull, func(ctx context.Context, c *call) (err error) {
		list, err = c.referrers(ctx, dg, artifactType)
		if errors.Is(err, errNoAPI) {
			list, err = c.taggedReferrers(ctx, dg, artifactType)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", subject, err)
	}
	return list, nil
}

// errNoAPI means that a registry does not know the referrers API.
var errNoAPI = errors.New("no referrers API")

// noAPI are the statuses with which registries say so: Artifactory answers 406 (go-containerregistry#1962).
var noAPI = []int{
	http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
	http.StatusNotImplemented,
}

// referrers asks the API.
func (c *call) referrers(
	ctx context.Context, subject digest.Digest, artifactType string,
) ([]Descriptor, error) {
	page, err := c.repo.near("../referrers/" + subject.String())
	if err != nil {
		return nil, err
	}
	if artifactType != "" {
		page = page.WithQuery("artifactType", artifactType)
	}
	var list []Descriptor
	err = c.pages(ctx, page, func(ans *calls.Answer) (n int, stop bool, err error) {
		if !isIndex(ans) {
			return 0, false, errNoAPI
		}
		some, err := entries(ans.Data, artifactType)
		if list = append(list, some...); len(list) > maxTags {
			return 0, false, ans.Broken("there are more than %d", maxTags)
		}
		return len(some), false, err
	}, noAPI...)
	return list, err
}

// isIndex tells whether an answer is a list of referrers. A registry that does not know the path may answer
// with a web page, as registry.k8s.io does (oras-go#633).
func isIndex(a *calls.Answer) bool {
	return a.StatusCode == http.StatusOK && manifest.IsObject(a.Data) && !wire.LooksLikeWebPage(a.Header) &&
		manifest.Told(a.Data, a.Header.Get("Content-Type")) == MediaTypeIndex
}

// taggedReferrers reads the list under the referrers tag.
func (c *call) taggedReferrers(
	ctx context.Context, subject digest.Digest, artifactType string,
) ([]Descriptor, error) {
	data, err := c.lists().Read(ctx, subject)
	if err != nil || data == nil {
		return nil, err
	}
	return entries(data, artifactType)
}

// lists are the lists under referrers tags.
func (c *call) lists() *referrers.Lists {
	return &referrers.Lists{Asker: &c.Asker, Registry: c.repo.registry, Repository: c.repo.opts.Repository}
}

// entries returns the entries of an index that have the artifact type: the registry need not have filtered
// them.
func entries(index []byte, artifactType string) (list []Descriptor, err error) {
	content, err := NewManifest(index, MediaTypeIndex).Content()
	if err != nil {
		return nil, retry.Permanent(err)
	}
	for _, d := range content.Manifests {
		if artifactType == "" || d.ArtifactType == artifactType {
			list = append(list, d)
		}
	}
	return list, nil
}
