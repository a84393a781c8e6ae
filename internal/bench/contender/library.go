package contender

import (
	"context"
	"io"
	"os"
	"path/filepath"
)

// library is one that moves single blobs. How many at once, and what becomes of a body, is the same for all.
type library struct {
	fetch func(context.Context, Blob) (io.ReadCloser, error)
	push  func(context.Context, Blob, *os.File) error

	// verifies is that it checks the digest of what it fetches itself.
	verifies bool

	// syncs is that a file counts only once it is on the disk.
	syncs bool
}

// opener makes a library ready for a job.
type opener func(context.Context, *Job) (library, error)

// download fetches what is not there.
func (open opener) download(ctx context.Context, j *Job) error {
	l, err := open(ctx, j)
	if err != nil {
		return err
	}
	s := newSaver()
	return j.each(ctx, func(ctx context.Context, b Blob) error {
		if fi, err := os.Stat(j.path(b)); err == nil && fi.Size() == b.Size {
			return nil
		}
		body, err := l.fetch(ctx, b)
		if err != nil {
			return err
		}
		defer body.Close()
		return s.save(j.path(b), b, body, l)
	})
}

func (open opener) upload(ctx context.Context, j *Job) error {
	l, err := open(ctx, j)
	if err != nil {
		return err
	}
	return j.each(ctx, func(ctx context.Context, b Blob) error {
		f, err := os.Open(j.path(b))
		if err != nil {
			return err
		}
		defer f.Close()
		return l.push(ctx, b, f)
	})
}

// nearby asks no registry: the blobs are in another directory of this machine.
func nearby(_ context.Context, j *Job) (library, error) {
	return library{syncs: true, fetch: func(_ context.Context, b Blob) (io.ReadCloser, error) {
		return os.Open(filepath.Join(j.Near, b.File()))
	}}, nil
}
