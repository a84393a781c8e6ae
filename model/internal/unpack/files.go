package unpack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/pack"
)

// ErrInTheWay is something that has a name and is neither replaced nor written through.
var ErrInTheWay = errors.New("is in the way")

// makeDirs makes a directory and those above it. All must be directories: a link in their place may be one
// that an earlier model has made.
func makeDirs(root *os.Root, dir string) error {
	for i := range len(dir) + 1 {
		if i < len(dir) && dir[i] != '/' || dir == "." {
			continue
		}
		err := root.Mkdir(dir[:i], 0o777)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := realDir(root, dir[:i]); err != nil {
			return err
		}
	}
	return nil
}

// realDir fails where a name is something else than a directory.
func realDir(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = inTheWay(root, name, info)
	}
	return err
}

func inTheWay(root *os.Root, name string, info fs.FileInfo) error {
	what := "something that is no file"
	switch {
	case info.IsDir():
		what = "a directory"
	case info.Mode().Type() == fs.ModeSymlink:
		what = "a link"
	case info.Mode().IsRegular():
		what = "a file"
	}
	path := filepath.Join(root.Name(), filepath.FromSlash(name))
	return fmt.Errorf("%s: %w: %s %w", path, fs.ErrExist, what, ErrInTheWay)
}

// openDir opens a directory of a directory. It may be a link to a directory, on another disk for instance,
// that the user has made; no model can make one of that name.
func openDir(root *os.Root, name string) (*os.Root, error) {
	if err := root.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return openExistingDir(root, name)
}

func openExistingDir(root *os.Root, name string) (*os.Root, error) {
	info, err := root.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Type() == fs.ModeSymlink && rootfile.IsTrusted(info):
		return rootfile.OpenDir(filepath.Join(root.Name(), name))
	case !info.IsDir():
		return nil, inTheWay(root, name, info)
	}
	return root.OpenRoot(name)
}

// remove makes way for a file. What is there under its name, a link too, is removed; a directory stays.
func remove(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.IsDir() {
		err = inTheWay(root, name, info)
	}
	if err != nil {
		return err
	}
	return root.Remove(name)
}

// create writes a file anew and never through a link.
func create(root *os.Root, name string, mode fs.FileMode, write func(f *os.File) error) error {
	if err := remove(root, name); err != nil {
		return err
	}
	return createNew(root, name, mode, write)
}

// createNew is create for a name that nothing has.
func createNew(root *os.Root, name string, mode fs.FileMode, write func(f *os.File) error) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, root.Remove(name))
	}
	return nil
}

// replace is create for a file that has its name when it is whole.
func replace(root *os.Root, name string, mode fs.FileMode, write func(f *os.File) error) error {
	temporary, err := createTemporary(root, name, mode, write)
	if err != nil {
		return err
	}
	if err := root.Rename(temporary, name); err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	return nil
}

// createTemporary writes a file that gets its name later, and returns what it is called until then. A pull
// that was killed may have left one. Where no lock can be had, another may be writing it: then the name is
// one that nobody else has.
func createTemporary(
	root *os.Root, name string, mode fs.FileMode, write func(f *os.File) error,
) (temporary string, err error) {
	dir, base := path.Split(name)
	temporary = dir + temporaryName(base)
	info, err := root.Lstat(temporary)
	if err == nil && !info.IsDir() && time.Since(info.ModTime()).Abs() > lockPatience {
		_ = root.Remove(temporary) // else another name is taken
	}
	err = createNew(root, temporary, mode, write)
	if errors.Is(err, fs.ErrExist) {
		temporary = dir + temporaryName(rand.Text()+"."+base)
		err = createNew(root, temporary, mode, write)
	}
	return temporary, err
}

// fill gives a file the content of another: by a reflink where the disk has them, else by a copy.
func fill(ctx context.Context, f, src *os.File) error {
	if clone(f, src) == nil {
		return nil
	}
	_, err := io.Copy(f, pack.Reader(ctx, src))
	return err
}

// copyTo writes a file anew and never through a link.
func copyTo(root *os.Root, name string, content io.Reader) error {
	return create(root, name, 0o666, func(f *os.File) error {
		_, err := io.Copy(f, content)
		return err
	})
}

// move gives a file another name, in the same directory or in another. Across file systems it is copied,
// synced and renamed, for no longer than ctx.
func move(ctx context.Context, from *os.Root, name string, to *os.Root, target string) error {
	if from == to {
		err := from.Rename(name, target)
		if !errors.Is(err, syscall.EXDEV) {
			return err
		}
	}
	src, err := rootfile.Open(from, name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	err = replace(to, target, info.Mode().Perm(), func(f *os.File) error {
		return errors.Join(fill(ctx, f, src), f.Sync())
	})
	if err != nil {
		return err
	}
	return from.Remove(name)
}

// temporaryName is what a file is called that is not whole yet. No model can have it, and no blob.
func temporaryName(base string) string {
	const most = 200
	return ".transfer." + strings.ToValidUTF8(base[:min(len(base), most)], "") + ".new"
}

// writeFile gives a file its content, whole or not at all. The directory above it must be there.
func writeFile(root *os.Root, name string, data []byte) error {
	return replace(root, name, 0o666, func(f *os.File) error {
		if _, err := f.Write(data); err != nil {
			return err
		}
		return f.Sync()
	})
}

// WriteFile gives a file its content, whole or not at all, and makes the directories above it.
func WriteFile(name string, data []byte) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	return inPlace(dir, nil, func(root *os.Root) error { return writeFile(root, filepath.Base(name), data) })
}
