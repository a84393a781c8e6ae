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

// orderedHash hashes a partial in order, from its first byte to the first that is not recorded. Its Len is
// the offset of the next byte. Extents that turn out to be damaged are dropped from the record.
//
// It has no lock: the hasher's guards it.
type orderedHash struct {
	data   *dataFile
	record *recorder
	hash   prefixhash.Hash
	silent int64 // bytes that were read since the holder has last shown that it gets on
}

// beatSize is how much is read back until the holder shows that it gets on.
const beatSize = 16 << 20 // 16 MiB

// read reads an extent back.
func (o *orderedHash) read(ctx context.Context, e extent, to io.Writer) error {
	if o.silent += e.Len(); o.silent >= beatSize {
		o.silent = 0
		o.data.beat()
	}
	return o.data.read(ctx, e.Range, to)
}

// take hashes bytes that were just written, and so need not be read back, if they come next.
func (o *orderedHash) take(off int64, b []byte) {
	if off == o.hash.Len() {
		_, _ = o.hash.Write(b)
	}
}

// advance hashes what is recorded up to the first gap.
func (o *orderedHash) advance(ctx context.Context) error {
	for {
		e, ok := o.next()
		if !ok {
			return nil
		}
		if err := o.hashExtent(ctx, e); err != nil {
			return err
		}
	}
}

// next returns the extent that comes next, or as much of it as is hashed at once, and false where it is
// missing.
func (o *orderedHash) next() (extent, bool) {
	at := o.hash.Len()
	e, ok := o.record.at(at)
	if ok && !e.inherited() {
		e.Start = at
		e.End = min(e.End, at+step)
	}
	return e, ok
}

// advanceTo hashes the rest of a range that this claim has written, if the next byte is in it.
func (o *orderedHash) advanceTo(ctx context.Context, r pieces.Range) {
	if at := o.hash.Len(); r.Start <= at && at < r.End {
		r.Start = at
		_ = o.hashExtent(ctx, extent{Range: r, written: true}) // Commit meets the error again
	}
}

// hashExtent hashes the extent that comes next. On failure the hash is what it was before.
func (o *orderedHash) hashExtent(ctx context.Context, e extent) error {
	before := o.hash.Snapshot()
	damaged, err := o.hashAndCompare(ctx, e)
	if err == nil && !damaged {
		return nil
	}
	o.hash.Restore(before)
	if damaged {
		o.drop(e)
		return nil
	}
	return err
}

// hashAndCompare hashes an extent, and tells whether it is known to be damaged. What an earlier run has
// recorded is compared with its CRC, because a crash may have damaged it.
func (o *orderedHash) hashAndCompare(ctx context.Context, e extent) (damaged bool, err error) {
	if !e.inherited() {
		err = o.read(ctx, e, &o.hash)
		return errors.Is(err, io.ErrUnexpectedEOF), err
	}
	sum := crc32.New(castagnoli)
	err = o.read(ctx, e, io.MultiWriter(&o.hash, sum))
	return isDamage(err, sum.Sum32(), e), err
}

// isDamage tells whether reading an extent has shown that it is not what came over the network.
func isDamage(err error, sum uint32, e extent) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || err == nil && sum != e.crc
}

// drop makes a damaged extent missing. What was hashed of it may be written anew, so it is hashed anew too.
func (o *orderedHash) drop(e extent) {
	if o.record.drop(e.Start) < o.hash.Len() {
		o.hash.Reset()
	}
}

// compareAll reads all extents back and drops the damaged ones. It skips those without a CRC, and those that
// were compared when they were hashed.
func (o *orderedHash) compareAll(ctx context.Context) (damaged bool, err error) {
	hashed := o.hash.Len() // before any is dropped
	for _, e := range o.record.all() {
		if e.adopted || e.inherited() && e.End <= hashed {
			continue
		}
		sum := crc32.New(castagnoli)
		err := o.read(ctx, e, sum)
		switch {
		case isDamage(err, sum.Sum32(), e):
			o.drop(e)
			damaged = true
		case err != nil:
			return damaged, err
		}
	}
	return damaged, nil
}
