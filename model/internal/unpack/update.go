package unpack

import (
	"context"
	"maps"
	"slices"

	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/opencontainers/go-digest"
)

// Update says what becomes of what is in a directory already and is not of the model that comes, and what
// came of it.
type Update struct {
	// Keep leaves files that were edited, or that no pull has put there. Otherwise they are replaced.
	Keep bool

	// Delete removes files that an earlier model has brought and this one has not. One that was edited stays.
	Delete bool

	// DryRun changes nothing.
	DryRun bool

	// Changes are what was done, or would be, and Begun says that files have begun to get their places.
	Changes []Change
	Begun   bool
}

// Change is what became of one file.
type Change struct {
	Kind ChangeKind
	Name string
	From string // of Renamed
	Own  bool   // no pull has put it there, or it was kept before; else it was edited
}

// ChangeKind is what became of a file.
type ChangeKind string

// Kinds of changes.
const (
	Renamed  ChangeKind = "renamed"  // its content had another name before
	Replaced ChangeKind = "replaced" // it was edited, or somebody's own
	Kept     ChangeKind = "kept"     // the same, with Keep
	Removed  ChangeKind = "removed"  // it is in the model no longer
	Gone     ChangeKind = "gone"     // the same, without Delete
	Edited   ChangeKind = "edited"   // the same, but somebody has edited it: it stays
)

func (d *Dir) changed(kind ChangeKind, name string) {
	seen, known := d.former.files[name]
	d.Update.Changes = append(d.Update.Changes, Change{Kind: kind, Name: name, Own: !known || seen.Kept})
}

// Missing lists the entries whose content does not have its place, and finds out which files are in their
// way. With again all that is there is hashed.
func (d *Dir) Missing(ctx context.Context, entries []Entry, again bool) (missing []Entry, err error) {
	for _, e := range entries {
		there, err := d.There(ctx, e, again)
		if err != nil {
			return nil, err
		}
		if there {
			continue
		}
		kept, err := d.meets(ctx, e)
		if err != nil {
			return nil, err
		}
		if !kept {
			missing = append(missing, e)
		}
	}
	return missing, nil
}

// meets notes a file of somebody's that has the title of an entry, and tells whether it stays.
func (d *Dir) meets(ctx context.Context, e Entry) (kept bool, err error) {
	if e.Archive {
		return false, nil // its names are known when it has come
	}
	foreign, err := d.notOurs(ctx, e.Title)
	switch {
	case err != nil || !foreign:
		return false, err
	case d.Update.Keep:
		d.changed(Kept, e.Title)
		delete(d.Record.Files, e.Title)
		return true, nil
	}
	d.changed(Replaced, e.Title)
	return false, nil
}

// Reuse puts what is missing and has another name in the directory into the stage, so that it need not be
// fetched. It is a shortcut: what cannot be done is fetched.
func (d *Dir) Reuse(ctx context.Context, all, missing []Entry) {
	byDigest := make(map[string][]string, len(d.former.files))
	for _, name := range slices.Sorted(maps.Keys(d.former.files)) {
		if dg := d.former.files[name].Digest; dg != "" {
			byDigest[dg] = append(byDigest[dg], name)
		}
	}
	current := d.current(all, d.folds(d.Update.DryRun))
	for _, e := range missing {
		for _, name := range byDigest[e.Layer.Digest] {
			if e.Archive || !d.usable(ctx, name) {
				continue
			}
			if !current(name) && !d.moved[name] {
				d.moved[name] = true
				d.Update.Changes = append(d.Update.Changes, Change{Kind: Renamed, Name: e.Title, From: name})
			}
			blob := pack.BlobName(digest.Digest(e.Layer.Digest))
			if d.Update.DryRun || d.bring(ctx, name, blob, d.moved[name]) == nil {
				d.reused[e.Layer.Digest] = true
				break
			}
		}
	}
}

// Reused tells whether a missing entry has its content from the directory itself.
func (d *Dir) Reused(e Entry) bool { return d.reused[e.Layer.Digest] }

// Clear deals with what earlier models have brought and this one has not: with Delete it is removed. All
// entries of the model have their places.
func (d *Dir) Clear(ctx context.Context, all []Entry) error {
	current := d.current(all, d.folds(d.Update.DryRun))
	gone := slices.Sorted(maps.Keys(d.former.files))
	slices.Reverse(gone) // what is in a directory comes before it
	d.Record.Removed = map[string]Seen{}
	for _, name := range gone {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if current(name) {
			continue
		}
		if err := d.clear(ctx, name); err != nil {
			return err
		}
	}
	if d.Update.DryRun {
		return nil
	}
	return d.seeMoved(all, d.reused)
}

func (d *Dir) clear(ctx context.Context, name string) error {
	seen := d.former.files[name]
	if d.yields(name) { // it has given way
		if !seen.Dir && !d.moved[name] {
			d.changed(Removed, name)
		}
		return nil
	}
	info, err := d.root.Lstat(name)
	if err != nil || d.free(name, seen.Dir) != nil {
		return nil // what is not there, or is behind a link, is not ours any more
	}
	problem := problemIf(!info.ModTime().UTC().Equal(seen.Time) || info.Size() != seen.Size, "edited")
	if !d.moved[name] { // it was looked at before it got its other name
		problem, err = d.compare(ctx, name, seen, false)
	}
	switch {
	case err != nil:
		return err
	case problem != "" || seen.Kept:
		if !seen.Dir {
			d.changed(Edited, name)
		}
		return nil
	case d.moved[name]: // told as renamed
	case !d.Update.Delete:
		if d.Record.Removed[name] = seen; !seen.Dir {
			d.changed(Gone, name)
		}
		return nil
	case !seen.Dir:
		d.changed(Removed, name)
	}
	if d.Update.DryRun {
		return nil
	}
	return d.removeEarlier(name, seen.Dir)
}
