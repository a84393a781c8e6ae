package blobstore

import (
	"context"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// step is how much is hashed, of an extent that is not compared with its CRC, before it counts.
const step = 4 << 20 // 4 MiB

// startHashing lets the bytes of a large blob be hashed as they are recorded.
func (p *Partial) startHashing() {
	if !p.large() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.startHasher()
}

// stopHashing returns when no goroutine of the partial is left.
func (p *Partial) stopHashing() {
	p.mu.Lock()
	if p.ctx != nil {
		p.stop()
		p.ctx = nil
	}
	p.mu.Unlock()
	p.hasher.Wait()
}

// startHasher starts the goroutine that hashes what is recorded, if there may be something to hash and it is
// not running. It ends by itself. The caller holds mu.
func (p *Partial) startHasher() {
	if p.ctx == nil || p.running || len(p.recorded) == 0 {
		return
	}
	p.running = true
	ctx := p.ctx
	p.hasher.Go(func() {
		p.hashing.Lock()
		defer p.hashing.Unlock()
		for {
			err := p.hashPrefix(ctx) // Commit meets the error again
			p.mu.Lock()
			if _, more := p.next(); err != nil || !more {
				p.running = false
				p.mu.Unlock()
				return
			}
			p.mu.Unlock()
		}
	})
}

// hashPrefix hashes what is recorded from the frontier on, up to the first gap. The
// caller holds hashing.
func (p *Partial) hashPrefix(ctx context.Context) error {
	for {
		p.mu.Lock()
		e, ok := p.next()
		p.mu.Unlock()
		if !ok {
			return nil
		}
		if err := p.hashExtent(ctx, e); err != nil {
			return err
		}
	}
}

// next returns the extent at the frontier, and false where nothing is recorded there. The caller
// holds hashing and mu.
func (p *Partial) next() (extent, bool) {
	i := p.recorded.search(p.hashed)
	if i == len(p.recorded) || p.recorded[i].Start > p.hashed {
		return extent{}, false
	}
	e := p.recorded[i]
	if !p.comparedFirst(e) {
		e.Start = p.hashed
		e.End = min(e.End, e.Start+step)
	}
	return e, true
}

// comparedFirst tells whether an extent must be what its CRC says before it counts as hashed.
func (p *Partial) comparedFirst(e extent) bool { return p.checked(e) && !e.written }

// checked tells whether the disk can be compared with what came over the network.
func (p *Partial) checked(e extent) bool { return p.large() && !e.adopted }

// hashExtent hashes one extent. One that is damaged on the disk is not recorded any
// more. On failure the hash is what it was before.
func (p *Partial) hashExtent(ctx context.Context, e extent) error {
	before := clone(p.hash)
	damaged, err := p.hashAndCompare(ctx, e)
	if err == nil && !damaged {
		p.hashed = e.End
		return nil
	}
	if before != nil {
		p.hash = before
	} else {
		p.rewind()
	}
	if damaged {
		p.drop(e)
		return nil
	}
	return err
}

// hashAndCompare hashes one extent, and tells whether it is known to be damaged.
func (p *Partial) hashAndCompare(ctx context.Context, e extent) (damaged bool, err error) {
	sum := crc32.New(castagnoli)
	to := io.Writer(p.hash)
	if p.comparedFirst(e) {
		to = io.MultiWriter(p.hash, sum)
	}
	err = p.read(ctx, e.Range, to)
	damaged = errors.Is(err, io.ErrUnexpectedEOF) || err == nil && p.comparedFirst(e) && sum.Sum32() != e.crc
	return damaged, err
}

// rewind has everything hashed again.
func (p *Partial) rewind() {
	p.hash.Reset()
	p.hashed = 0
}

// clone returns a copy of a hash, or nil if the hash cannot be copied.
func clone(h hash.Hash) hash.Hash {
	c, ok := h.(hash.Cloner)
	if !ok {
		return nil
	}
	copied, err := c.Clone()
	if err != nil {
		return nil
	}
	return copied
}

// read feeds a range of the data file to a hash. The error is io.ErrUnexpectedEOF when the file is shorter.
func (p *Partial) read(ctx context.Context, r pieces.Range, to io.Writer) error {
	buf := p.dir.buffers.Get().(*[]byte)
	defer p.dir.buffers.Put(buf)
	for off := r.Start; off < r.End; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := (*buf)[:min(r.End-off, int64(len(*buf)))]
		n, err := p.data.ReadAt(b, off)
		if n < len(b) && (err == nil || err == io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return err
		}
		_, _ = to.Write(b)
		off += int64(n)
	}
	return nil
}

// drop makes an extent missing, because it is damaged on the disk. What was hashed of it
// may be written anew, so it is hashed anew too.
func (p *Partial) drop(e extent) {
	p.mu.Lock()
	var start int64
	p.recorded, start = p.recorded.without(e.Start)
	p.damaged = true
	p.mu.Unlock()
	if start < p.hashed {
		p.rewind()
	}
}

// verify hashes what the hasher has not, and compares the digest.
func (p *Partial) verify(ctx context.Context) error {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if err := p.hashPrefix(ctx); err != nil {
		return p.readFailed(ctx, err)
	}
	if p.hashed < p.size {
		return p.gap(ctx)
	}
	got := digest.NewDigest(p.digest.Algorithm(), p.hash)
	if got == p.digest {
		return nil
	}
	if damaged, err := p.compareAll(ctx); err != nil || damaged {
		return p.damage(ctx, err)
	}
	p.rewind()
	if err := p.forget(); err != nil {
		p.fail(err)
		return err
	}
	return &MismatchError{Got: got, Want: p.digest}
}

// readFailed keeps nothing of a disk that cannot be read.
func (p *Partial) readFailed(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		p.fail(err)
	}
	return err
}

// gap tells why the bytes at the frontier are missing. When they were damaged, all the others are compared
// too, so that all that is damaged can be fetched at once.
func (p *Partial) gap(ctx context.Context) error {
	p.mu.Lock()
	damaged := p.damaged
	p.mu.Unlock()
	if !damaged {
		return ErrIncomplete
	}
	_, err := p.compareAll(ctx)
	return p.damage(ctx, err)
}

// damage tells what was damaged on the disk, unless comparing has failed.
func (p *Partial) damage(ctx context.Context, err error) error {
	if err != nil {
		return p.readFailed(ctx, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.damaged = false
	return &MismatchError{Want: p.digest, Disk: p.recorded.missing(p.size)}
}

// compareAll drops all extents that are not on the disk what came, and tells whether there were any. What
// was compared before it was hashed is not compared again.
func (p *Partial) compareAll(ctx context.Context) (damaged bool, err error) {
	p.mu.Lock()
	all := slices.Clone(p.recorded)
	p.mu.Unlock()
	hashed := p.hashed
	for _, e := range all {
		if !p.checked(e) || p.comparedFirst(e) && e.End <= hashed {
			continue
		}
		sum := crc32.New(castagnoli)
		err := p.read(ctx, e.Range, sum)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF), err == nil && sum.Sum32() != e.crc:
			p.drop(e)
			damaged = true
		case err != nil:
			return damaged, err
		}
	}
	return damaged, nil
}

// forget makes everything missing: only what was adopted without a CRC, where there
// is such, because it is the likelier cause.
func (p *Partial) forget() error {
	p.mu.Lock()
	trusted := slices.DeleteFunc(slices.Clone(p.recorded), func(e extent) bool { return e.adopted })
	if len(trusted) == len(p.recorded) {
		trusted = nil
	}
	p.recorded = trusted
	p.mu.Unlock()
	if err := p.journal.reset(); err != nil {
		return err
	}
	return p.journal.addAll(trusted)
}
