// Package pack makes manifests of files: what push sends.
package pack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer/model/internal/names"
)

var (
	// ErrEmpty is a directory without a file in it.
	ErrEmpty = errors.New("there is no file in it")

	// ErrLink is a link that leads out of the directory, or to what is left out of it.
	ErrLink = errors.New("the link leads out of what is sent")

	// ErrNotRegular is a pipe, a device or, in a directory, a link to a directory or to nothing.
	ErrNotRegular = errors.New("neither a file nor a directory")

	// errTwice is two files that would get the same title.
	errTwice = errors.New("two files of the same name")

	// errNoneLeft is what would be sent without a file.
	errNoneLeft = fmt.Errorf("%w that the patterns do not exclude", ErrEmpty)
)

// File is a file to be packed, or a directory with nothing in it.
type File struct {
	Path  string // where it is
	Title string // what it is called in the model, with slashes
	Info  fs.FileInfo
}

// Mode is what the model says of the permissions: whether the file can be executed, and nothing that differs
// from one machine to the next.
func (f File) Mode() fs.FileMode {
	if f.Info.Mode()&0o100 != 0 {
		return 0o755
	}
	return 0o644
}

// Choice says which files of a directory are packed.
type Choice struct {
	// Exclude are patterns of names that are left out; see [names.Match].
	Exclude []string

	// FollowLinks packs what links lead to that lead out of the directory, or to what is left out of it. They
	// are an error otherwise: whoever made them may have meant what is nobody's business.
	FollowLinks bool

	// LeftOut is told of what is left out though nobody asked for that. It may be nil.
	LeftOut func(path string)
}

// size is how many bytes a file has.
func (f File) size() int64 {
	if f.Info.IsDir() {
		return 0
	}
	return f.Info.Size()
}

// Walk lists the files of paths, and the directories that have none: of one directory what is in it, under
// its path in the directory; of several paths files under their names and directories with theirs before. A
// link to a file is that file, as in the caches of download tools, and a path may be a link to a directory.
// What is left out ([names.LeftOut]) is told. What pull would refuse is an error.
func Walk(paths []string, c Choice) ([]File, error) {
	files, err := List(paths, c)
	if err == nil {
		err = together(files)
	}
	return files, err
}

// List is Walk where names do not matter.
func List(paths []string, c Choice) ([]File, error) {
	tops, err := topsOf(paths)
	if err != nil {
		return nil, err
	}
	if len(tops) == 1 && tops[0].Info.IsDir() {
		tops[0].Title = ""
	}
	var files []File
	for _, top := range tops {
		found, err := walk(top, c)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, errNoneLeft
	}
	return files, nil
}

// topsOf says what paths are called. "." has a name too.
func topsOf(paths []string) ([]File, error) {
	tops := make([]File, len(paths))
	for i, path := range paths {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
		}
		tops[i] = File{Path: path, Title: filepath.Base(absolute), Info: info}
	}
	return tops, nil
}

func (f File) isExcluded(c Choice) bool { return names.Match(c.Exclude, f.Title) }

// lister lists one directory.
type lister struct {
	root, prefix string
	choice       Choice
	files        []File
	above        map[string]bool // directories that have something in them
	excluded     bool            // something was, as the choice says
}

func walk(top File, c Choice) ([]File, error) {
	switch {
	case top.Info.IsDir():
	case top.isExcluded(c):
		return nil, nil
	default:
		return []File{top}, nil
	}
	l := &lister{root: top.Path, prefix: top.Title, choice: c, above: map[string]bool{}}
	behindALink := top.Path + string(filepath.Separator) // where it is one
	if err := filepath.WalkDir(behindALink, l.visit); err != nil {
		return nil, err
	}
	kept, found := l.files[:0], false
	for _, f := range l.files {
		if !f.Info.IsDir() || !l.above[f.Path] {
			kept = append(kept, f)
			found = found || !f.Info.IsDir()
		}
	}
	switch {
	case found:
		return kept, nil
	case l.excluded:
		return nil, fmt.Errorf("%s: %w", top.Path, errNoneLeft)
	}
	return nil, fmt.Errorf("%s: %w", top.Path, ErrEmpty)
}

func (l *lister) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	inside, err := filepath.Rel(l.root, path)
	title := strings.TrimPrefix(l.prefix+"/"+filepath.ToSlash(inside), "/")
	if err != nil || inside == "." {
		return err
	}
	if l.passesOver(path, title, d) {
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	info, err := os.Stat(path)
	isLink := d.Type() == fs.ModeSymlink
	switch {
	case isLink && errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w: a link to nothing", path, ErrNotRegular)
	case err != nil:
		return err
	case isLink && info.IsDir():
		return fmt.Errorf("%s: %w: a link to a directory, which is not followed", path, ErrNotRegular)
	case !info.Mode().IsRegular() && !d.IsDir():
		return fmt.Errorf("%s: %w", path, ErrNotRegular)
	case isLink:
		if err := l.follow(path); err != nil {
			return err
		}
	}
	l.above[filepath.Dir(path)] = true
	l.files = append(l.files, File{Path: path, Title: title, Info: info})
	return nil
}

// passesOver tells whether a file, or a directory with all that is below it, is not taken.
func (l *lister) passesOver(path, title string, d fs.DirEntry) bool {
	switch {
	case d.IsDir() && d.Name() == names.StateDir:
		return true
	case names.LeftOut(d.Name()), d.IsDir() && names.Kept(d.Name()):
		if l.choice.LeftOut != nil {
			l.choice.LeftOut(path)
		}
		return true
	case names.Match(l.choice.Exclude, title):
		l.excluded = true
		return true
	}
	return false
}

// follow refuses a link that leads out of the directory, or to what is left out: .git/config may have a token
// in it.
func (l *lister) follow(path string) error {
	if l.choice.FollowLinks {
		return nil
	}
	root, err := realPath(l.root)
	if err != nil {
		return err
	}
	target, err := realPath(path)
	if err != nil {
		return err
	}
	inside, err := filepath.Rel(root, target)
	if err != nil || !filepath.IsLocal(inside) || leftOut(filepath.ToSlash(inside)) {
		return fmt.Errorf("%s: %w: to %s", path, ErrLink, target)
	}
	return nil
}

// leftOut tells what is in a directory and not in a model of it.
func leftOut(inside string) bool {
	return names.LeftOut(inside) || slices.ContainsFunc(strings.Split(inside, "/"), names.Kept)
}

// realPath is where a path leads.
func realPath(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(absolute)
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
			return fmt.Errorf("%w: %s and %s are both %q", errTwice, first, f.Path, f.Title)
		}
		seen[f.Title] = f.Path
		if err := taken.Add(f.Title, f.Info.IsDir()); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return nil
}
