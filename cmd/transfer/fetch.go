package main

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/model/unpack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// puller is the first half of a copy.
type puller struct {
	*app
	rehash bool
	ref    ref.Reference
	dir    string
	repo   *registry.Repository
	notes  *notes
}

// choosePlatform returns the manifest of an index for a platform, or says what there is to choose from.
func (a *app) choosePlatform(
	ctx context.Context, r ref.Reference, repo *registry.Repository, m registry.Manifest, platform string,
) (registry.Manifest, error) {
	if platform != "" && !m.IsIndex() {
		a.note("%s is no index of platforms; --platform %s chooses nothing", r, platform)
	}
	chosen, err := repo.Platform(ctx, m, platform)
	if !errors.Is(err, registry.ErrPlatform) {
		return chosen, err
	}
	content, err := m.Content()
	if err != nil {
		return m, err
	}
	var platforms []string
	for _, d := range content.Manifests {
		if d.Platform != "" && d.Platform != noPlatform {
			platforms = append(platforms, d.Platform)
		}
	}
	text := "it is an index of " + plural(len(content.Manifests), "manifest")
	if platform != "" {
		text += ", none of them for " + platform
	}
	switch {
	case len(platforms) > 0:
		text += "; choose with --platform " + strings.Join(platforms, ", ")
	case len(content.Manifests) > 0:
		one := r.WithDigest(digest.Digest(content.Manifests[0].Digest))
		text += "; choose one by its digest, such as " + one.String()
	}
	return m, &choiceError{text}
}

// choiceError is an index of which a manifest must be chosen.
type choiceError struct{ text string }

func (e *choiceError) Error() string { return e.text }
func (e *choiceError) Unwrap() error { return registry.ErrPlatform }

// manifestTree lists a manifest of a repository after all that it lists, each once.
func manifestTree(
	ctx context.Context, repo *registry.Repository, m registry.Manifest, most int,
) ([]registry.Manifest, error) {
	return pack.Tree(m.Digest, most, func(dg string) (registry.Manifest, error) {
		if dg == m.Digest {
			return m, nil
		}
		return repo.Manifest(ctx, dg)
	})
}

// download fetches blobs into a directory. There is what the directory above has already; it counts
// as a part of the whole.
func (p *puller) download(
	ctx context.Context, blobs []transfer.Blob, dir string, there int64, names map[string]string,
) (outcome, error) {
	f := newFollower(names)
	meter := p.newMeter("pull", f.moving)
	p.notes.show(meter)
	o := p.downloadOptions(p.repo, p.notes.trace(p.app, f))
	o.Blobs, o.DestDir, o.Verify = blobs, dir, p.rehash
	o.Progress = func(completed, total int64) { meter.Update(completed+there, total+there) }
	var err error
	if len(blobs) > 0 {
		err = transfer.Download(ctx, o)
	} else {
		meter.Update(there, there)
	}
	p.notes.show(nil)
	done := closeMeter(meter, len(blobs))
	need := done.total - done.there - done.moved
	if done.total == 0 { // it was refused before the first byte
		for _, b := range blobs {
			need += b.Size
		}
	}
	return done, lackOfRoom(err, need, dir)
}

// lackOfRoom adds to an error of a full disk how much is missing.
func lackOfRoom(err error, need int64, dir string) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, transfer.ErrInsufficientSpace) {
		free, known := unpack.FreeSpace(dir) // now: what is empty in the end is removed
		if !known {
			free = -1
		}
		return &model.SpaceError{Dir: dir, Need: need, Free: free, Err: err}
	}
	return err
}

// namesOf returns the names that manifests give their blobs, by digest.
func namesOf(manifests []registry.Manifest) map[string]string {
	names := map[string]string{}
	for _, m := range manifests {
		content, err := m.Content()
		if err != nil {
			continue // it is refused elsewhere
		}
		for _, l := range content.Layers {
			names[l.Digest] = cmp.Or(l.Annotations[pack.FilepathAnnotation], l.Title())
		}
	}
	return names
}

// putManifests pushes manifests under their digests and the last, which lists them, under its name.
func putManifests(ctx context.Context, repo *registry.Repository, parts []pack.Part, name string) error {
	for i, p := range parts {
		version := ""
		if i == len(parts)-1 {
			version = name
		}
		if err := repo.PutManifest(ctx, version, registry.NewManifest(p.Manifest, "")); err != nil {
			return err
		}
	}
	return nil
}

// mergeBlobs lists the blobs of all parts, each once.
func mergeBlobs(parts []pack.Part) []transfer.Blob {
	var blobs []transfer.Blob
	seen := map[string]bool{}
	for _, p := range parts {
		for _, b := range p.Blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				blobs = append(blobs, b)
			}
		}
	}
	return blobs
}
