// Package donor opens the files that a download may take bytes from. They are not ours: each may be
// something else than a file, change, grow, shrink, or vanish at any time. They are never written to, and
// whatever is wrong with them is no error of the download.
package donor

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/internal/tensorfile"
)

// maxOpen is how many files are open at once.
const maxOpen = 8

// Files are files that may have parts of a blob. They are safe for concurrent use.
type Files struct {
	all []*File

	mu   sync.Mutex // guards the fields that follow
	open []*File    // the one that was used last is the last
}

// File is one of them.
type File struct {
	path  string
	files *Files

	once    sync.Once // for tensors
	tensors []tensorfile.Tensor

	mu   sync.Mutex // guards file, also while it is read
	file *os.File   // nil when it is not open
}

// New returns files. They are opened when they are read.
func New(paths []string) *Files {
	f := &Files{}
	for _, path := range paths {
		f.all = append(f.all, &File{path: path, files: f})
	}
	return f
}

// All returns the files in their order.
func (f *Files) All() []*File { return f.all }

// Close closes what is open.
func (f *Files) Close() {
	for _, x := range f.all {
		x.close()
	}
}

// used notes that a file was read. Where too many are open, it closes the one that was unused for longest. It
// is called when the file is open: closed before, it would be opened again, and nobody would know.
func (f *Files) used(x *File) {
	var last *File
	f.mu.Lock()
	for i, o := range f.open {
		if o == x {
			f.open = append(f.open[:i], f.open[i+1:]...)
			break
		}
	}
	if f.open = append(f.open, x); len(f.open) > maxOpen {
		last, f.open = f.open[0], f.open[1:]
	}
	f.mu.Unlock()
	if last != nil {
		last.close()
	}
}

func (x *File) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.file != nil {
		_ = x.file.Close()
		x.file = nil
	}
}

// Path returns the path that the file was given with.
func (x *File) Path() string { return x.path }

// Tensors returns the table of the file as it was when it was asked for first, empty where it has none or
// cannot be read.
func (x *File) Tensors() []tensorfile.Tensor {
	x.once.Do(func() {
		f, err := x.Open()
		if err != nil {
			return
		}
		defer f.Close()
		if fi, err := f.Stat(); err == nil {
			x.tensors, _ = tensorfile.Read(f, fi.Size(), fi.Size())
		}
	})
	return x.tensors
}

// ReadAt reads the file as it is now.
func (x *File) ReadAt(b []byte, off int64) (int, error) {
	defer x.files.used(x)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.file == nil {
		f, err := x.Open()
		if err != nil {
			return 0, err
		}
		x.file = f
	}
	return x.file.ReadAt(b, off)
}

// Open opens the file for reading, which the caller closes. What is no regular file, or a link to one, is
// refused.
func (x *File) Open() (*os.File, error) {
	root, err := rootfile.OpenDir(filepath.Dir(x.path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return rootfile.Open(root, filepath.Base(x.path), os.O_RDONLY)
}
