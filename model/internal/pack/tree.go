package pack

import (
	"cmp"
	"fmt"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/limit"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

const (
	// defaultManifests is how many manifests an index may name, with those that they name.
	defaultManifests = 512

	// manifestBytes is how large they may be on average, because all are kept in memory.
	manifestBytes = 128 << 10 // 128 KiB
)

// Tree is manifests with all that they list, each once: what is listed comes before what lists it.
type Tree struct {
	All []registry.Manifest

	fetch func(dg string) (registry.Manifest, error)
	most  int
	size  int64
	seen  map[string]int64 // the size of each
}

// NewTree returns a tree of so many manifests at most, which fetch gets by their digests. 0 means
// [defaultManifests].
func NewTree(most int, fetch func(dg string) (registry.Manifest, error)) *Tree {
	return &Tree{fetch: fetch, most: cmp.Or(most, defaultManifests), seen: map[string]int64{}}
}

// Add adds a manifest after all that it lists. The error is a [*limit.Error] where there are more than there
// may be.
func (t *Tree) Add(dg string) error { return t.add(dg, maxDepth) }

func (t *Tree) add(dg string, depth int) error {
	_, known := t.seen[dg]
	switch {
	case known:
		return nil
	case len(t.seen) == t.most:
		return &limit.Error{Limit: limit.Manifests, Most: int64(t.most)}
	case digest.Digest(dg).Validate() != nil:
		return fmt.Errorf("digest %.100q: %w", dg, digest.ErrDigestInvalidFormat)
	}
	t.seen[dg] = 0
	m, err := t.fetch(dg)
	if err != nil {
		return err
	}
	t.seen[dg] = int64(len(m.Data))
	if t.size += int64(len(m.Data)); t.size > int64(t.most)*manifestBytes {
		return &limit.Error{Limit: limit.Manifests, Most: int64(t.most)}
	}
	content, err := m.Content()
	if err != nil {
		return fmt.Errorf("%s: %w", dg, err)
	}
	if depth == 0 && len(content.Manifests) > 0 {
		return fmt.Errorf("%s: indexes are nested too deep", dg)
	}
	for _, d := range content.Manifests {
		if err := t.add(d.Digest, depth-1); err != nil {
			return err
		}
		if size := t.seen[d.Digest]; size != d.Size {
			return fmt.Errorf("%s: %w: it says that %s has %d bytes, and that has %d",
				dg, transfer.ErrSizeMismatch, d.Digest, d.Size, size)
		}
	}
	t.All = append(t.All, m)
	return nil
}
