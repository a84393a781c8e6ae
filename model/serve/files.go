package serve

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/opencontainers/go-digest"
)

// errTooLarge is a file that is no manifest, and says nothing of one.
var errTooLarge = errors.New("larger than a manifest")

// errContent is a manifest whose content is not that of its digest.
var errContent = errors.New("it is not what its name says")

// open opens a file of the registry. A pipe, a device or a link is not there: who else may write to the
// directory could have it hold a request, or lead to any file of this machine. A link of this user is
// followed to read.
func open(path string, flag int) (*os.File, error) {
	root, err := rootfile.OpenDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := rootfile.Open(root, filepath.Base(path), flag)
	if errors.Is(err, rootfile.ErrNotRegular) && flag == os.O_RDONLY && isOwnLink(path) {
		f, err = rootfile.OpenLinked(path)
	}
	if errors.Is(err, rootfile.ErrNotRegular) || errors.Is(err, syscall.EISDIR) {
		err = &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return f, err
}

// linked are the files of other places to which links of this user lead. Whoever has made the directory may
// have made a link to any file of this machine: what is not what its name says is not there.
type linked struct {
	mu    sync.Mutex // guards the fields that follow, and is held while a file is hashed
	known map[digest.Digest]hashed
}

// hashed is a file as it was when it was hashed, and whether it was right.
type hashed struct {
	info  fs.FileInfo
	right bool
}

// check hashes a file, once for as long as it stays the same.
func (l *linked) check(f *os.File, dg digest.Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	was, known := l.known[dg]
	if !known || !os.SameFile(was.info, info) || was.info.Size() != info.Size() ||
		!was.info.ModTime().Equal(info.ModTime()) {
		digester := dg.Algorithm().Digester()
		if _, err := io.Copy(digester.Hash(), io.NewSectionReader(f, 0, info.Size())); err != nil {
			return err
		}
		was = hashed{info, digester.Digest() == dg}
		l.known[dg] = was
	}
	if !was.right {
		return &fs.PathError{Op: "open", Path: f.Name(), Err: fs.ErrNotExist}
	}
	return nil
}

func isOwnLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == fs.ModeSymlink && rootfile.IsOwn(info)
}

// trusted fails where a directory below that of a registry is a link that another user has made: what is
// written behind it would be anywhere.
func trusted(dir, below string) error {
	for element := range strings.SplitSeq(filepath.ToSlash(below), "/") {
		dir = filepath.Join(dir, element)
		info, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err == nil && info.Mode().Type() == fs.ModeSymlink && !rootfile.IsTrusted(info):
			err = &fs.PathError{Op: "open", Path: dir, Err: fs.ErrPermission}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readFile reads a manifest, or a file that says something of one.
func readFile(path string) ([]byte, error) {
	f, err := open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = &fs.PathError{Op: "read", Path: path, Err: errTooLarge}
	}
	return data, err
}
