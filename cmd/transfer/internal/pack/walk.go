// Package pack makes manifests of files: what push sends.
package pack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// StateDir is where pull keeps what belongs to a directory and not to its model.
const StateDir = ".transfer"

var (
	// ErrEmpty is a directory without a file in it.
	ErrEmpty = errors.New("there is no file in it")

	// ErrNotRegular is a pipe, a device or, in a directory, a link to a directory.
	ErrNotRegular = errors.New("neither a file nor a directory (links to directories are not followed)")

	// ErrTwice is two files that would get the same title.
	ErrTwice = errors.New("two files of the same name")
)

// File is a file to be packed.
type File struct {
	Path  string // where it is
	Title string // what it is called in the model, with slashes
	Info  fs.FileInfo
}

// Walk lists the files of paths: of one directory those in it, under their paths in the directory;
// of several paths files under their names and directories with theirs before. A link to a file is
// that file, as in the caches of download tools, and a path may be a link to a directory.
func Walk(paths []string) ([]File, error) {
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
		found, err := walk(path, prefix, info)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, unique(files)
}

// walk lists one path.
func walk(path, prefix string, info fs.FileInfo) ([]File, error) {
	switch {
	case info.Mode().IsRegular():
		return []File{{Path: path, Title: prefix, Info: info}}, nil
	case !info.IsDir():
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	var files []File
	err := WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == StateDir || d.Name() == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s: %w", name, ErrNotRegular)
		}
		inside, err := filepath.Rel(path, name)
		if err != nil {
			return err
		}
		title := strings.TrimPrefix(prefix+"/"+filepath.ToSlash(inside), "/")
		files = append(files, File{Path: name, Title: title, Info: info})
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s: %w", path, ErrEmpty)
	}
	return files, err
}

// WalkDir is [filepath.WalkDir], also of a directory behind a link.
func WalkDir(dir string, visit fs.WalkDirFunc) error {
	return filepath.WalkDir(dir+string(filepath.Separator), visit)
}

func unique(files []File) error {
	seen := make(map[string]string, len(files))
	for _, f := range files {
		if first, ok := seen[f.Title]; ok {
			return fmt.Errorf("%w: %s and %s are both %q", ErrTwice, first, f.Path, f.Title)
		}
		seen[f.Title] = f.Path
	}
	return nil
}
