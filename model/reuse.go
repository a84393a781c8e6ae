package model

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/ref"
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
		part, _ := pack.ReadPart(filepath.Join(p.dir, pack.ManifestName))
		blobs = part.Blobs
	case OCILayout:
		kind = pack.OCI
		named, _ := pack.Referenced(p.dir, kind, p.Limits.Manifests)
		blobs = named.Blobs
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
		part, _ := pack.ReadPart(filepath.Join(dir, tag.Name()))
		blobs = append(blobs, part.Blobs...)
	}
	return blobs
}
