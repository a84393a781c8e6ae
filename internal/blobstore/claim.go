package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	mrand "math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/retry"
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
		if err := retry.Sleep(ctx, wait/2+mrand.N(wait/2)); err != nil {
			return nil, err
		}
	}
}

func (d *Dir) tryClaim(ctx context.Context, dg digest.Digest, size int64) (*Partial, error) {
	p := &Partial{dir: d, digest: dg, name: nameOf(dg), size: size, hash: dg.Algorithm().Hash()}
	var err error
	if p.data, err = d.openData(p.name); err != nil {
		return nil, err
	}
	if err := p.begin(ctx); err != nil {
		return nil, errors.Join(err, p.Close(true))
	}
	return p, nil
}

// begin finds out what there is to do for the blob whose data file was locked.
func (p *Partial) begin(ctx context.Context) error {
	if err := p.unfinished(); err != nil {
		return err
	}
	p.dir.sweep(p.name, false)
	if p.data.fresh && p.large() {
		makeSparse(p.data.File)
	}
	if err := p.resume(); err != nil {
		if !retry.NoDescriptor(err) {
			p.writeFailed(err)
		}
		return err
	}
	p.begun = true
	if p.large() {
		p.startHashing()
		return nil
	}
	p.hashing.Lock()
	defer p.hashing.Unlock()
	return p.hashPrefix(ctx)
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
	p.dir.sweep(p.name, true)
	return err
}
