package blobstore

import (
	"context"
	"errors"
	"hash/crc32"
	"io"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/prefixhash"
)

// step is how much is hashed, of an extent that is not compared with its CRC, before it counts.
const step = 4 << 20 // 4 MiB

// frontier hashes a partial in order. The frontier is the first byte that is not hashed: it moves on when
// that byte is recorded and was read back. Extents that turn out to be damaged are dropped from the record.
//
// It has no lock: the hasher's guards it.
type frontier struct {
	data   *dataFile
	record *recorder
	hash   prefixhash.Hash
	silent int64 // bytes that were read since the holder has last shown that it gets on
}

// beatSize is how much is read back until the holder shows that it gets on.
const beatSize = 16 << 20 // 16 MiB

// read reads an extent back.
func (f *frontier) read(ctx context.Context, e extent, to io.Writer) error {
	if f.silent += e.Len(); f.silent >= beatSize {
		f.silent = 0
		f.data.beat()
	}
	return f.data.read(ctx, e.Range, to)
}

// take hashes bytes that were just written, and so need not be read back, if they are at the frontier.
func (f *frontier) take(off int64, b []byte) {
	if off == f.hash.Len() {
		_, _ = f.hash.Write(b)
	}
}

// advance hashes what is recorded up to the first gap.
func (f *frontier) advance(ctx context.Context) error {
	for {
		e, ok := f.next()
		if !ok {
			return nil
		}
		if err := f.hashExtent(ctx, e); err != nil {
			return err
		}
	}
}

// next returns the extent at the frontier, or as much of it as is hashed at once, and false where the byte
// there is missing.
func (f *frontier) next() (extent, bool) {
	at := f.hash.Len()
	e, ok := f.record.at(at)
	if ok && !e.inherited() {
		e.Start = at
		e.End = min(e.End, at+step)
	}
	return e, ok
}

// advanceTo hashes the rest of a range that this claim has written, if the frontier is in it.
func (f *frontier) advanceTo(ctx context.Context, r pieces.Range) {
	if at := f.hash.Len(); r.Start <= at && at < r.End {
		r.Start = at
		_ = f.hashExtent(ctx, extent{Range: r, written: true}) // Commit meets the error again
	}
}

// hashExtent hashes an extent that begins at the frontier. On failure the frontier stays where it is.
func (f *frontier) hashExtent(ctx context.Context, e extent) error {
	before := f.hash.Snapshot()
	damaged, err := f.hashAndCompare(ctx, e)
	if err == nil && !damaged {
		return nil
	}
	f.hash.Restore(before)
	if damaged {
		f.drop(e)
		return nil
	}
	return err
}

// hashAndCompare hashes an extent, and tells whether it is known to be damaged. What an earlier run has
// recorded is compared with its CRC, because a crash may have damaged it.
func (f *frontier) hashAndCompare(ctx context.Context, e extent) (damaged bool, err error) {
	if !e.inherited() {
		err = f.read(ctx, e, &f.hash)
		return errors.Is(err, io.ErrUnexpectedEOF), err
	}
	sum := crc32.New(castagnoli)
	err = f.read(ctx, e, io.MultiWriter(&f.hash, sum))
	return isDamage(err, sum.Sum32(), e), err
}

// isDamage tells whether reading an extent has shown that it is not what came over the network.
func isDamage(err error, sum uint32, e extent) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || err == nil && sum != e.crc
}

// drop makes a damaged extent missing. What was hashed of it may be written anew, so it is hashed anew too.
func (f *frontier) drop(e extent) {
	if f.record.drop(e.Start) < f.hash.Len() {
		f.hash.Reset()
	}
}

// compareAll drops all extents that are not on the disk what came, and tells whether there were any. It skips
// those without a CRC, and those that were compared when they were hashed.
func (f *frontier) compareAll(ctx context.Context) (damaged bool, err error) {
	hashed := f.hash.Len() // before any is dropped
	for _, e := range f.record.all() {
		if e.adopted || e.inherited() && e.End <= hashed {
			continue
		}
		sum := crc32.New(castagnoli)
		err := f.read(ctx, e, sum)
		switch {
		case isDamage(err, sum.Sum32(), e):
			f.drop(e)
			damaged = true
		case err != nil:
			return damaged, err
		}
	}
	return damaged, nil
}
