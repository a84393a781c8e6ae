package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

const (
	// leastReuse is the size from which on a file may hold much of a blob: none is looked for but for blobs
	// of more than 32 MiB.
	leastReuse = 1 << 20 // 1 MiB

	// mostReuse is how many files of a directory in Reuse are looked into.
	mostReuse = 4096
)

// reusable lists the files of paths that may be files or directories, as [PullOptions].Reuse says.
func reusable(ctx context.Context, paths []string) (files []string, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		real := path
		if err == nil {
			real, err = filepath.EvalSymlinks(path) // a link that is named is meant
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("to reuse: %w", err)
		case info.IsDir():
			below, err := filesBelow(ctx, real)
			if err != nil {
				return nil, fmt.Errorf("to reuse: %w", err)
			}
			files = append(files, below...)
		case !info.Mode().IsRegular():
			return nil, optionf("Reuse", "%s is neither a file nor a directory", path)
		default:
			files = append(files, real)
		}
	}
	return files, nil
}

// filesBelow lists the files of a directory and of those in it that may hold much of a blob. Links are left
// out, and what is not whole: it may be what this pull goes on with.
func filesBelow(ctx context.Context, dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && path == dir:
			return err
		case len(files) == mostReuse:
			return fs.SkipAll
		case err == nil && entry.Type().IsRegular() && !strings.Contains(entry.Name(), ".partial"):
			if info, err := entry.Info(); err == nil && info.Size() >= leastReuse {
				files = append(files, path)
			}
		}
		return nil // what cannot be read is no help
	})
	return files, err
}

// earlier lists the blobs of other versions of the model in a directory that has no named files. It is a
// shortcut: what cannot be read is no help.
func (p *puller) earlier() (files []string) {
	var blobs []transfer.Blob
	kind := pack.Blobs
	switch p.Form {
	case Blobs:
		m, _ := readModel(p.dir)
		blobs = m.Blobs
	case OCILayout:
		kind = pack.OCI
		blobs, _, _ = pack.Referenced(p.dir, kind, p.Limits.Manifests)
	case Ollama:
		kind = pack.Ollama
		blobs = otherTags(p.dir, p.ref)
	}
	for _, b := range blobs {
		dg := digest.Digest(b.Digest)
		if b.Size < leastReuse || dg.Validate() != nil {
			continue
		}
		if path := pack.TreePath(p.dir, kind, dg); isSized(path, b.Size) {
			files = append(files, path)
		}
	}
	return files
}

// otherTags lists the blobs of the tags of a model in Ollama's models directory.
func otherTags(models string, r ref.Reference) (blobs []transfer.Blob) {
	dir := filepath.Join(models, "manifests", r.Host, filepath.FromSlash(r.Repository))
	tags, _ := os.ReadDir(dir)
	for _, tag := range tags[:min(len(tags), mostReuse)] {
		data, err := pack.ReadManifest(filepath.Join(dir, tag.Name()))
		if err != nil {
			continue
		}
		if of, err := registry.NewManifest(data, "").Blobs(); err == nil {
			blobs = append(blobs, of...)
		}
	}
	return blobs
}

// reuses counts what the blobs of a transfer have of other files.
type reuses struct {
	mu    sync.Mutex       // guards bytes
	bytes map[string]int64 // by digest
}

// trace has a transfer count, beside what somebody else is told.
func (r *reuses) trace(other *transfer.Trace) *transfer.Trace {
	var all transfer.Trace
	if other != nil {
		all = *other
	}
	r.bytes = map[string]int64{}
	set := func(b transfer.Blob, bytes func(had int64) int64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bytes[b.Digest] = bytes(r.bytes[b.Digest])
	}
	all.Reused = both(func(i transfer.ReuseInfo) {
		set(i.Blob, func(had int64) int64 { return had + i.Bytes })
	}, all.Reused)
	all.Retried = both(func(i transfer.RetryInfo) {
		if errors.Is(i.Err, transfer.ErrDigestMismatch) { // it was thrown away
			set(i.Blob, func(int64) int64 { return 0 })
		}
	}, all.Retried)
	all.Done = both(func(i transfer.DoneInfo) {
		set(i.Blob, func(had int64) int64 { return min(had, i.Reused) })
	}, all.Done)
	return &all
}

// total returns how many bytes that is in all. The transfer has ended.
func (r *reuses) total() (n int64) {
	for _, bytes := range r.bytes {
		n += bytes
	}
	return n
}
