package unpack

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
)

// yield is free, where what an earlier model has put there gives way: a file in the place of a directory,
// or a directory of such files in that of a file. It is removed when the new file has come. What somebody
// has edited or made stays in the way.
func (d *Dir) yield(ctx context.Context, name string, dir bool) error {
	err := d.free(name, dir)
	if !errors.Is(err, ErrInTheWay) {
		return err
	}
	at := d.obstacle(name)
	if d.yields(at) {
		return nil
	}
	ours, failed := d.ours(ctx, at)
	if failed != nil || !ours {
		return errors.Join(err, failed)
	}
	d.yielding = append(d.yielding, at)
	return nil
}

// obstacle is what is in the way of a name: the first above it that is no directory, or what has the name
// itself.
func (d *Dir) obstacle(name string) string {
	for i := range len(name) {
		if name[i] == '/' && errors.Is(realDir(d.root, name[:i]), ErrInTheWay) {
			return name[:i]
		}
	}
	return name
}

// yields tells whether a name, or a directory above it, gives way.
func (d *Dir) yields(name string) bool {
	for ; name != "."; name = path.Dir(name) {
		if slices.Contains(d.yielding, name) {
			return true
		}
	}
	return false
}

// ours tells whether a file, or a directory with all that is below it, is as a pull has left it. A link in
// the way is somebody's.
func (d *Dir) ours(ctx context.Context, name string) (ours bool, err error) {
	info, err := d.root.Lstat(name)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return false, err
	}
	err = fs.WalkDir(d.root.FS(), name, func(at string, entry fs.DirEntry, err error) error {
		seen, known := d.former[at]
		if err != nil || entry.IsDir() {
			ours = ours || known && seen.Dir
			return err
		}
		problem := ""
		if known {
			problem, err = d.checkSeen(ctx, at, seen, false)
		}
		if ours = err == nil && known && !seen.Kept && !seen.Dir && problem == ""; !ours {
			return cmp.Or(err, fs.SkipAll)
		}
		return nil
	})
	return ours, err
}

// makeWay removes what gives way, unless it was changed meanwhile.
func (d *Dir) makeWay(ctx context.Context) error {
	for _, name := range d.yielding {
		info, err := d.root.Lstat(name)
		if err != nil {
			return err
		}
		ours, err := d.ours(ctx, name)
		if err == nil && !ours {
			err = inTheWay(d.root, name, info)
		}
		if err == nil {
			err = d.root.RemoveAll(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
