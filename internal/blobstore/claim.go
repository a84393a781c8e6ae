package blobstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	mrand "math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// How long a claim waits until it looks again whether a blob has become free.
const (
	shortestWait = 2 * time.Millisecond
	longestWait  = 100 * time.Millisecond
)

// Claim gives the right to write a blob, to one caller of all processes. The others wait until
// it is given up, for as long as their contexts allow: a holder that hangs is not told from a slow one.
// The caller must call Close of the partial.
//
// The error matches [fs.ErrExist] when the blob has its final name, most often because
// the caller that had the claim before has finished it. A file that [Dir.Check] found wrong
// does not count.
func (d *Dir) Claim(ctx context.Context, dg digest.Digest, size int64) (*Partial, error) {
	if size < 0 {
		return nil, fmt.Errorf("%s: %w: %d bytes", dg, ErrSize, size)
	}
	for wait := shortestWait; ; wait = min(wait*3/2, longestWait) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p, err := d.tryClaim(ctx, dg, size)
		if !errors.Is(err, filelock.ErrBusy) && !errors.Is(err, rootfile.ErrReplaced) {
			return p, err
		}
		if err := sleep(ctx, wait/2+mrand.N(wait/2)); err != nil {
			return nil, err
		}
	}
}

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func (d *Dir) tryClaim(ctx context.Context, dg digest.Digest, size int64) (*Partial, error) {
	p := &Partial{dir: d, digest: dg, name: nameOf(dg), size: size, hash: dg.Algorithm().Hash()}
	p.data = p.name + partialSuffix
	var err error
	p.file, p.fresh, err = d.grab(p.data)
	if cannotShare(err) {
		err = p.grabUnique()
	}
	if err != nil {
		return nil, err
	}
	if err := p.begin(ctx); err != nil {
		return nil, errors.Join(err, p.Close(true))
	}
	return p, nil
}

// cannotShare tells whether what has the name of the partial can neither be locked nor be written.
func cannotShare(err error) bool {
	return errors.Is(err, filelock.ErrUnsupported) || errors.Is(err, ErrNotRegular) || errors.Is(err, syscall.EISDIR) ||
		errors.Is(err, errForeign)
}

// errForeign is a partial of another user.
var errForeign = errors.New("not ours to write")

// grab opens and locks a file, and creates it if it is not there (fresh). The error
// matches filelock.ErrBusy where another holds it, and rootfile.ErrReplaced where it is no longer the file of that name.
func (d *Dir) grab(name string) (f *os.File, fresh bool, err error) {
	f, err = d.create(name)
	fresh = err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = d.openRegular(name, os.O_RDWR)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = rootfile.ErrReplaced
		case errors.Is(err, fs.ErrPermission):
			err = errForeign
		}
	}
	if err != nil {
		return nil, false, err
	}
	if err = d.pathError("lock", name, d.lock(f)); err == nil {
		err = d.stillNamed(f, name)
	}
	if err == nil {
		return f, fresh, nil
	}
	if fresh && errors.Is(err, filelock.ErrUnsupported) {
		err = errors.Join(err, d.remove(name))
	}
	_ = f.Close()
	return nil, false, err
}

func (d *Dir) create(name string) (*os.File, error) {
	f, err := rootfile.Create(d.root, name, 0o666)
	return f, d.pathError("open", name, err)
}

// stillNamed makes sure that a file has kept its name until it was locked: the
// holder before us may have given it its final name, or removed it.
func (d *Dir) stillNamed(f *os.File, name string) error {
	return d.pathError("lstat", name, rootfile.Named(d.root, f, name))
}

// grabUnique makes a data file that nobody else knows. The rename decides between several.
func (p *Partial) grabUnique() error {
	name := p.name + uniqueSuffix + strings.ToLower(rand.Text())
	f, err := p.dir.create(name)
	if err != nil {
		return err
	}
	err = p.dir.lock(f) // so that nobody takes it for a leftover
	if err == nil {
		err = p.dir.stillNamed(f, name)
	}
	if err != nil && !errors.Is(err, filelock.ErrUnsupported) {
		return errors.Join(err, f.Close(), p.dir.remove(name))
	}
	p.file, p.data, p.fresh, p.unique = f, name, true, true
	return nil
}

// begin finds out what there is to do for the blob whose data file was locked.
func (p *Partial) begin(ctx context.Context) error {
	if err := p.unfinished(); err != nil {
		return err
	}
	p.dir.sweep(p.name, false)
	if err := p.resume(); err != nil {
		if !NoDescriptor(err) {
			p.writeFailed(err)
		}
		return err
	}
	p.begun = true
	if p.large() {
		p.startFollowing()
		return nil
	}
	p.hashing.Lock()
	defer p.hashing.Unlock()
	return p.follow(ctx)
}

// NoDescriptor tells whether a file could not be opened because too many are: that says nothing about it.
func NoDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// unfinished makes sure that the blob does not have its final name by now.
func (p *Partial) unfinished() error {
	fi, err := p.dir.final(p.name)
	if err != nil {
		return err
	}
	if fi == nil || fi.Size() != p.size {
		return nil
	}
	p.dir.mu.Lock()
	bad, known := p.dir.bad[p.name]
	p.dir.mu.Unlock()
	if known && bad == versionOf(fi) {
		return nil
	}
	err = p.dir.pathError("claim", p.name, fs.ErrExist)
	p.fail(err) // nobody needs what was left
	return err
}
