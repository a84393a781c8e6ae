// Package pack makes manifests of files: what push sends.
package pack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/names"
)

// StateDir is where pull keeps what belongs to a directory and not to its model.
const StateDir = names.StateDir

var (
	// ErrEmpty is a directory without a file in it.
	ErrEmpty = errors.New("there is no file in it")

	// ErrNotRegular is a pipe, a device or, in a directory, a link to a directory.
	ErrNotRegular = errors.New("neither a file nor a directory (links to directories are not followed)")

	// ErrTwice is two files that would get the same title.
	ErrTwice = errors.New("two files of the same name")
)

// File is a file to be packed, or a directory with nothing in it.
type File struct {
	Path  string // where it is
	Title string // what it is called in the model, with slashes
	Info  fs.FileInfo
}

// Mode is what the model says of the permissions: whether the file can be executed, and nothing that differs from
// one machine to the next.
func (f File) Mode() fs.FileMode {
	if f.Info.Mode()&0o100 != 0 {
		return 0o755
	}
	return 0o644
}

// size is how many bytes a file has.
func (f File) size() int64 {
	if f.Info.IsDir() {
		return 0
	}
	return f.Info.Size()
}

// Walk lists the files of paths, and the directories that have none: of one directory what is in it, under its
// path in the directory; of several paths files under their names and directories with theirs before. A link to
// a file is that file, as in the caches of download tools, and a path may be a link to a directory. What is left
// out ([names.LeftOut]) is told. What pull would refuse is an error.
func Walk(paths []string, leftOut func(path string)) ([]File, error) {
	files, err := List(paths, leftOut)
	if err == nil {
		err = together(files)
	}
	return files, err
}

// List is Walk where names do not matter.
func List(paths []string, leftOut func(path string)) ([]File, error) {
	var files []File
	for _, path := range paths {
		prefix := filepath.Base(filepath.Clean(path))
		if absolute, err := filepath.Abs(path); err == nil {
			prefix = filepath.Base(absolute) // "." has a name too
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.IsDir() && len(paths) == 1 {
			prefix = ""
		}
		found, err := walk(path, prefix, info, leftOut)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// lister lists one path.
type lister struct {
	root, prefix string
	leftOut      func(path string)
	files        []File
	above        map[string]bool // directories that have something in them
}

func walk(path, prefix string, info fs.FileInfo, leftOut func(path string)) ([]File, error) {
	switch {
	case info.Mode().IsRegular():
		return []File{{Path: path, Title: prefix, Info: info}}, nil
	case !info.IsDir():
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	l := &lister{root: path, prefix: prefix, leftOut: leftOut, above: map[string]bool{}}
	if err := WalkDir(path, l.visit); err != nil {
		return nil, err
	}
	kept, found := l.files[:0], false
	for _, f := range l.files {
		if !f.Info.IsDir() || !l.above[f.Path] {
			kept = append(kept, f)
			found = found || !f.Info.IsDir()
		}
	}
	if !found {
		return nil, fmt.Errorf("%s: %w", path, ErrEmpty)
	}
	return kept, nil
}

func (l *lister) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	inside, err := filepath.Rel(l.root, path)
	switch {
	case err != nil || inside == ".":
		return err
	case d.IsDir() && d.Name() == StateDir:
		return fs.SkipDir
	case names.LeftOut(d.Name()), d.IsDir() && names.Kept(d.Name()):
		if l.leftOut != nil {
			l.leftOut(path)
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() && !d.IsDir() {
		return fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	l.above[filepath.Dir(path)] = true
	title := strings.TrimPrefix(l.prefix+"/"+filepath.ToSlash(inside), "/")
	l.files = append(l.files, File{Path: path, Title: title, Info: info})
	return nil
}

// WalkDir is [filepath.WalkDir], also of a directory behind a link.
func WalkDir(dir string, visit fs.WalkDirFunc) error {
	return filepath.WalkDir(dir+string(filepath.Separator), visit)
}

// together refuses files that pull would refuse.
func together(files []File) error {
	var taken names.Set
	seen := make(map[string]string, len(files))
	for _, f := range files {
		clean, err := names.Check(f.Title)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w; nobody could pull it", f.Path, err)
		case clean != f.Title || names.LeftOut(f.Title):
			return fmt.Errorf("%s: %w: %q is left out by pull", f.Path, names.ErrName, f.Title)
		}
		if first, ok := seen[f.Title]; ok {
			return fmt.Errorf("%w: %s and %s are both %q", ErrTwice, first, f.Path, f.Title)
		}
		seen[f.Title] = f.Path
		if err := taken.Add(f.Title, f.Info.IsDir()); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return nil
}
