package unpack

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/opencontainers/go-digest"
)

// ErrForm is a directory that has a model in another form, or would look as if it had.
var ErrForm = errors.New("named files do not go into a directory of another form")

// Dir is a directory that gets files under their titles. Nothing outside of it is written or read, whatever
// links are in it.
type Dir struct {
	*tree
	known
	former

	// Limits bound what archives may unpack to.
	Limits Limits

	// Update says what becomes of files that are there already.
	Update Update

	moved  map[string]bool // names of former files that get lost because the files get others
	reused map[string]bool // digests of what is fetched from the directory itself
}

// Open opens a directory and makes it where it is missing. It must be closed.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, err
	}
	return open(path, openDir)
}

// OpenExisting opens a directory, and changes nothing in it.
func OpenExisting(path string) (*Dir, error) { return open(path, openExistingDir) }

func open(path string, openStage func(*os.Root, string) (*os.Root, error)) (*Dir, error) {
	root, err := rootfile.OpenDir(path)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, path: path}
	if t.stage, err = openStage(root, names.StateDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, t.Close())
	}
	k := readKnown(t)
	return &Dir{
		tree: t, known: k, former: newFormer(k), moved: map[string]bool{}, reused: map[string]bool{},
	}, nil
}

// Prepare finds out before the first byte whether all entries of a model can have their places together, on
// the file system of this directory, and those that were chosen in what is there.
func (d *Dir) Prepare(ctx context.Context, all, entries []Entry) error {
	taken, err := d.Limits.claim(all, d.folds(d.Update.DryRun))
	if err != nil {
		return err
	}
	if err := d.keepForm(entries); err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.yield(ctx, e.Title, e.Archive); err != nil {
			return err
		}
	}
	return d.Limits.within(taken)
}

// confined tells whether all names of an archive begin with its title, as oras packs directories.
func (e Entry) confined() bool {
	return e.Archive && e.Layer.Annotations[pack.UnpackAnnotation] == "true" && e.Title != "."
}

// There tells whether the content of an entry has its place already. A file that is known from the record is
// trusted while it was not changed; any other of the right size is hashed, and with again all are.
func (d *Dir) There(ctx context.Context, e Entry, again bool) (bool, error) {
	if e.Archive {
		return d.archiveThere(ctx, e, again)
	}
	info, err := d.root.Lstat(e.Title)
	switch {
	case isMissing(err):
		return false, nil
	case err != nil:
		return false, err
	case info.IsDir() && d.yields(e.Title):
		return false, nil
	case info.IsDir():
		return false, inTheWay(d.root, e.Title, info)
	case !info.Mode().IsRegular() || info.Size() != e.Layer.Size:
		return false, nil
	}
	seen := d.Record.Files[e.Title]
	if again || d.foreign || seen.Digest != e.Layer.Digest || !seen.same(info) {
		dg, err := d.hash(ctx, e.Title, digest.Digest(e.Layer.Digest))
		if err != nil || dg.String() != e.Layer.Digest {
			return false, err
		}
	}
	return true, d.see(e, d.Update.DryRun)
}

// archiveThere tells whether all that an archive has unpacked to is there.
func (d *Dir) archiveThere(ctx context.Context, e Entry, again bool) (bool, error) {
	if d.foreign || d.Record.Archives[e.Title] != e.Layer.Digest {
		return false, nil
	}
	for _, name := range d.members[e.Title] {
		if seen := d.Record.Files[name]; seen.Kept {
			if !d.Update.Keep {
				return false, nil
			}
			continue
		}
		problem, err := d.Check(ctx, name, again)
		if problem != "" || err != nil {
			return false, err
		}
	}
	return true, nil
}

// Save writes the record into the stage, whole or not at all, and removes the archives that it says are
// unpacked. A call that ends before has nothing to fetch again.
func (d *Dir) Save() error {
	if err := d.known.save(); err != nil {
		return err
	}
	for _, dg := range d.Record.Archives {
		if digest.Digest(dg).Validate() != nil {
			continue // the record may be anybody's
		}
		if err := d.stage.Remove(pack.BlobName(digest.Digest(dg))); err != nil && !isMissing(err) {
			return err
		}
	}
	return nil
}

// isMissing also holds where a file has the place of a directory.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// Blobs lists the blobs of entries, each once.
func Blobs(entries []Entry) []transfer.Blob {
	blobs := make([]transfer.Blob, len(entries))
	for i, e := range entries {
		blobs[i] = e.Layer.Blob()
	}
	return pack.Distinct(blobs)
}
