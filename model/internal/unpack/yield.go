package unpack

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
)

// former is what pulls have put into a directory before this one. It may give way to what this one brings.
type former struct {
	tree     *tree
	files    map[string]Seen
	yielding map[string]bool // names that give way: to a directory, or with all that is below them to a file
}

// newFormer returns what a record has. That of another user may name what is ours.
func newFormer(k known) former {
	f := former{tree: k.tree, files: map[string]Seen{}, yielding: map[string]bool{}}
	if !k.foreign {
		maps.Copy(f.files, k.Record.Removed)
		maps.Copy(f.files, k.Record.Files)
	}
	return f
}

// notOurs tells whether a name has something that no pull has put there, or that was edited since.
func (f *former) notOurs(ctx context.Context, name string) (bool, error) {
	info, err := f.tree.root.Lstat(name)
	if isMissing(err) || err == nil && info.IsDir() {
		return false, nil // a directory in the way is told elsewhere
	}
	if err != nil {
		return false, err
	}
	seen, known := f.files[name]
	if !known || seen.Kept {
		return true, nil
	}
	problem, err := f.tree.compare(ctx, name, seen, false)
	return problem != "", err
}

// ours tells whether a file, or a directory with all that is below it, is as a pull has left it. A link in
// the way is somebody's.
func (f *former) ours(ctx context.Context, name string) (ours bool, err error) {
	info, err := f.tree.root.Lstat(name)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return false, err
	}
	err = fs.WalkDir(f.tree.root.FS(), name, func(at string, entry fs.DirEntry, err error) error {
		seen, known := f.files[at]
		if err != nil || entry.IsDir() {
			ours = ours || known && seen.Dir
			return err
		}
		problem := ""
		if known {
			problem, err = f.tree.compare(ctx, at, seen, false)
		}
		if ours = err == nil && known && !seen.Kept && !seen.Dir && problem == ""; !ours {
			return cmp.Or(err, fs.SkipAll)
		}
		return nil
	})
	return ours, err
}

// usable tells whether a file is what was recorded of it.
func (f *former) usable(ctx context.Context, name string) bool {
	if f.tree.free(name, false) != nil {
		return false
	}
	problem, err := f.tree.compare(ctx, name, f.files[name], false)
	return problem == "" && err == nil && !f.files[name].Kept
}

// Earlier lists the paths of the files that pulls have put here, of those that have so many bytes and more.
// Parts of what is missing may be in them.
func (f *former) Earlier(least int64) (paths []string) {
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		seen := f.files[name]
		if seen.Size < least || seen.Dir || seen.Link != "" || f.tree.free(name, false) != nil {
			continue
		}
		if info, err := f.tree.root.Lstat(name); err == nil && info.Mode().IsRegular() {
			paths = append(paths, filepath.Join(f.tree.path, filepath.FromSlash(name)))
		}
	}
	return paths
}

// yield is free, where what an earlier model has put there gives way: a file in the place of a directory,
// or a directory of such files in that of a file. It is removed when the new file has come. What somebody
// has edited or made stays in the way.
func (f *former) yield(ctx context.Context, name string, dir bool) error {
	err := f.tree.free(name, dir)
	if !errors.Is(err, ErrInTheWay) {
		return err
	}
	at := f.tree.obstacle(name)
	if f.yields(at) {
		return nil
	}
	ours, failed := f.ours(ctx, at)
	if failed != nil || !ours {
		return errors.Join(err, failed)
	}
	f.yielding[at] = true
	return nil
}

// yields tells whether a name, or a directory above it, gives way.
func (f *former) yields(name string) bool {
	for ; name != "."; name = path.Dir(name) {
		if f.yielding[name] {
			return true
		}
	}
	return false
}

// makeWay removes what gives way, unless it was changed meanwhile.
func (f *former) makeWay(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(f.yielding)) {
		info, err := f.tree.root.Lstat(name)
		if err != nil {
			return err
		}
		ours, err := f.ours(ctx, name)
		if err == nil && !ours {
			err = inTheWay(f.tree.root, name, info)
		}
		if err == nil {
			err = f.tree.root.RemoveAll(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
