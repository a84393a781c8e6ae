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

// stride is how much of an extent without a CRC is hashed before it counts.
const stride = 4 << 20 // 4 MiB

// startFollowing lets the bytes of a large blob be hashed as they are recorded.
func (p *Partial) startFollowing() {
	if !p.large() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.kick()
}

// stopFollowing returns when no goroutine of the partial is left.
func (p *Partial) stopFollowing() {
	p.mu.Lock()
	if p.ctx != nil {
		p.stop()
		p.ctx = nil
	}
	p.mu.Unlock()
	p.follower.Wait()
}

// kick starts the goroutine that hashes what is recorded, if there may be something to hash and it is
// not running. It ends by itself. The caller holds mu.
func (p *Partial) kick() {
	if p.ctx == nil || p.following || len(p.recorded) == 0 {
		return
	}
	p.following = true
	ctx := p.ctx
	p.follower.Go(func() {
		p.hashing.Lock()
		defer p.hashing.Unlock()
		for {
			err := p.follow(ctx) // Commit meets the error again
			p.mu.Lock()
			if _, more := p.next(); err != nil || !more {
				p.following = false
				p.mu.Unlock()
				return
			}
			p.mu.Unlock()
		}
	})
}

// follow hashes what is recorded from the frontier on, up to the first gap. The
// caller holds hashing.
func (p *Partial) follow(ctx context.Context) error {
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
	if !p.checked(e) {
		e.Start = p.hashed
		e.End = min(e.End, e.Start+stride)
	}
	return e, true
}

// checked tells whether the disk can be compared with what came over the network.
func (p *Partial) checked(e extent) bool { return p.large() && !e.adopted }

// hashExtent hashes one extent. One that is damaged on the disk is not recorded any
// more. On failure the hash is what it was before.
func (p *Partial) hashExtent(ctx context.Context, e extent) error {
	before := clone(p.hash)
	sum, err := p.read(ctx, e.Range, p.hash)
	damaged := errors.Is(err, io.ErrUnexpectedEOF) || err == nil && p.checked(e) && sum != e.crc
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

// read feeds a range of the data file to a hash and returns its CRC-32C. The
// error is io.ErrUnexpectedEOF when the file is shorter.
func (p *Partial) read(ctx context.Context, r pieces.Range, to io.Writer) (crc uint32, err error) {
	buf := p.dir.buffers.Get().(*[]byte)
	defer p.dir.buffers.Put(buf)
	for off := r.Start; off < r.End; {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		b := (*buf)[:min(r.End-off, int64(len(*buf)))]
		n, err := p.data.ReadAt(b, off)
		if n < len(b) && (err == nil || err == io.EOF) {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, b)
		_, _ = to.Write(b)
		off += int64(n)
	}
	return crc, nil
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

// verify hashes what the follower has not, and compares the digest.
func (p *Partial) verify(ctx context.Context) error {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if err := p.follow(ctx); err != nil {
		return p.readFailed(ctx, err)
	}
	if p.hashed < p.size {
		return p.gap(ctx)
	}
	got := digest.NewDigest(p.digest.Algorithm(), p.hash)
	if got == p.digest {
		return nil
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

// gap tells why the bytes at the frontier are missing. When they were damaged, the rest is
// looked at too, so that all that is damaged can be fetched at once.
func (p *Partial) gap(ctx context.Context) error {
	p.mu.Lock()
	damaged := p.damaged
	rest := slices.Clone(p.recorded[p.recorded.search(p.hashed):])
	p.mu.Unlock()
	if !damaged {
		return ErrIncomplete
	}
	for _, e := range rest {
		if !p.checked(e) {
			continue
		}
		sum, err := p.read(ctx, e.Range, io.Discard)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF), err == nil && sum != e.crc:
			p.drop(e)
		case err != nil:
			return p.readFailed(ctx, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.damaged = false
	return &MismatchError{Want: p.digest, Disk: p.recorded.missing(p.size)}
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
