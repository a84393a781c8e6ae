package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/model/unpack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// planned tells what a command would do. What would move is in the outcome as moved.
func (a *app) planned(verb, what string, r ref.Reference, dg string, o outcome) {
	if a.json {
		a.event("planned", field{"command", verb}, field{"reference", r.URL()}, field{"digest", dg},
			field{"blobs", o.blobs}, field{"bytes", o.total}, field{"there", o.there},
			field{"missing", o.moved})
		return
	}
	text := fmt.Sprintf("%s, %s", plural(o.blobs, cmp.Or(o.noun, "blob")), formatBytes(o.total))
	if o.moved == 0 {
		text += ", all there already"
	} else {
		text += fmt.Sprintf(" (%s there already)", formatBytes(o.there))
	}
	a.say("would %s %s: %s", verb, what, text)
	a.say("digest %s", dg)
}

// wouldMove lists one thing that would move.
func (a *app) wouldMove(size int64, name string) {
	if a.json {
		a.event("missing", field{"name", name}, field{"bytes", size})
		return
	}
	a.say("%8s  %s", formatBytes(size), name)
}

// planFiles tells what a pull of named files would do.
func (p *puller) planFiles(ctx context.Context, all, chosen []unpack.Entry) (outcome, error) {
	_, total := unpack.Blobs(chosen)
	done := outcome{blobs: len(chosen), noun: "file", total: total}
	missing, err := p.missingFiles(ctx, all, chosen)
	if err != nil {
		return done, err
	}
	for _, e := range missing {
		p.wouldMove(e.Layer.Size, e.Title)
	}
	_, done.moved = unpack.Blobs(missing)
	done.there = total - done.moved
	return done, nil
}

// missingFiles lists what would be fetched, and tells what would become of the files that are there.
func (p *puller) missingFiles(ctx context.Context, all, chosen []unpack.Entry) ([]unpack.Entry, error) {
	dir, err := unpack.OpenExisting(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return chosen, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	dir.Limits = p.limits.unpacking()
	dir.Update = unpack.Update{Keep: p.keep, Delete: p.del, DryRun: true}
	if err := dir.Prepare(all, chosen); err != nil {
		return nil, fmt.Errorf("%s: %w", p.ref, err)
	}
	lacking, err := dir.Missing(ctx, chosen, p.rehash)
	if err != nil {
		return nil, err
	}
	dir.Reuse(ctx, all, lacking)
	if err := dir.Clear(ctx, all); err != nil {
		return nil, err
	}
	p.tellChanges(dir.Update)
	var missing []unpack.Entry
	for _, e := range lacking {
		if !dir.Reused(e) {
			missing = append(missing, e)
		}
	}
	return missing, nil
}

// planBlobs tells which blobs of manifests a pull would fetch.
func (p *puller) planBlobs(kind pack.Kind, manifests ...registry.Manifest) (outcome, error) {
	var parts []pack.Part
	for _, m := range manifests {
		if m.IsIndex() {
			continue
		}
		blobs, err := m.Blobs()
		if err != nil {
			return outcome{}, fmt.Errorf("%s: %w", m.Digest, err)
		}
		parts = append(parts, pack.Part{Blobs: blobs})
	}
	return p.listMissing(mergeBlobs(parts), namesOf(manifests), func(b transfer.Blob) bool {
		dg := digest.Digest(b.Digest)
		if dg.Validate() != nil {
			return false
		}
		info, err := os.Stat(pack.TreePath(p.dir, kind, dg))
		return err == nil && info.Mode().IsRegular() && info.Size() == b.Size
	}), nil
}

// listMissing lists the blobs that are not there.
func (a *app) listMissing(
	blobs []transfer.Blob, names map[string]string, there func(transfer.Blob) bool,
) outcome {
	o := outcome{blobs: len(blobs)}
	for _, b := range blobs {
		if o.total += b.Size; there(b) {
			o.there += b.Size
			continue
		}
		o.moved += b.Size
		a.wouldMove(b.Size, blobName(b, names))
	}
	return o
}

// plan tells what a push would send.
func (a pusher) plan(ctx context.Context, r ref.Reference, src *source, dg digest.Digest) error {
	repo, err := a.target(ctx, r, new(notes))
	if err != nil {
		return err
	}
	defer repo.CloseIdleConnections()
	client, err := a.client()
	if err != nil {
		return err
	}
	blobs := mergeBlobs(src.parts)
	there, err := newProber(client, r, repo).all(ctx, blobs, "")
	if err != nil {
		return err
	}
	names := namesOf(manifestsOf(src.parts))
	o := a.listMissing(blobs, names, func(b transfer.Blob) bool { return there[b.Digest] })
	a.planned("push", fmt.Sprintf("%s to %s", src.what, r), r, dg.String(), o)
	return nil
}

// tellPlan tells what a copy would bring to its target.
func (c *copier) tellPlan(ctx context.Context) error {
	there, err := c.probe(ctx)
	if err != nil {
		return err
	}
	o := c.listMissing(c.blobs, namesOf(c.manifests), func(b transfer.Blob) bool { return there[b.Digest] })
	c.planned("copy", fmt.Sprintf("%s to %s", c.from, c.to), c.to, c.manifests[len(c.manifests)-1].Digest, o)
	return nil
}
