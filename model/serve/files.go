package serve

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/modeltransfer/transfer/internal/rootfile"
)

// errTooLarge is a file that is no manifest, and says nothing of one.
var errTooLarge = errors.New("larger than a manifest")

// open opens a file of the registry. A pipe, a device or a link is not there: who else may write to the
// directory could have it hold a request, or lead to any file of this machine. A link of this user is
// followed to read.
func open(path string, flag int) (*os.File, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
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

func isOwnLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == fs.ModeSymlink && rootfile.IsOwn(info)
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
