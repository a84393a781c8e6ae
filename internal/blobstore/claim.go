package blobstore

import (
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/prefixhash"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// How long a claim waits until it tries again to lock a blob that another has claimed.
const (
	shortestWait = 2 * time.Millisecond
	longestWait  = 100 * time.Millisecond
)

// ErrThere is a claim to a blob that has its final name. That any other name exists is no such error.
var ErrThere = errors.New("the blob is there")

// Claim gives one caller of all processes the right to write a blob. It must call Close of the partial, which
// ends that. The others wait for that until their contexts end, or until the holder has brought nothing
// for as long as [Waiting] says. Then they write a file of their own, which begins with what the holder has
// recorded, and the first who is done gives it the final name.
//
// The error matches [ErrThere] when the blob has its final name, most often because the caller that had the
// claim before has finished it. A file that [Dir.Check] found wrong does not count.
func (d *Dir) Claim(ctx context.Context, dg digest.Digest, size int64) (*Partial, error) {
	if size < 0 {
		return nil, fmt.Errorf("%s: %w: %d bytes", dg, errSize, size)
	}
	w := waiter{Waiting: d.Waiting, digest: dg}
	for wait := shortestWait; ; wait = min(wait*3/2, longestWait) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p, err := d.tryClaim(ctx, dg, size, w.passed)
		if claimed, ok := errors.AsType[claimedError](err); ok {
			if done, _ := d.finalNames.finished(nameOf(dg), size); done { // by one who was not waited for
				return nil, d.folder.doneMeanwhile(nameOf(dg))
			}
			w.look(claimed)
		} else if !errors.Is(err, rootfile.ErrReplaced) {
			return p, err
		}
		if err := retry.Sleep(ctx, wait/2+mrand.N(wait/2)); err != nil {
			return nil, err
		}
	}
}

// tryClaim makes a claim without waiting. It leaves out the first shared names, as many as were passed over.
// The error matches claimedError when another has the blob.
func (d *Dir) tryClaim(ctx context.Context, dg digest.Digest, size int64, passed int) (*Partial, error) {
	p := &Partial{finalNames: &d.finalNames, stale: &d.stale, name: nameOf(dg)}
	var err error
	if p.data, err = d.openData(p.name, passed); err != nil {
		return nil, err
	}
	p.record.size = size
	p.record.state.path = p.data.Name()
	p.hasher.want, p.hasher.record = dg, &p.record
	p.hasher.ordered = orderedHash{data: &p.data, record: &p.record, hash: prefixhash.New(dg.Algorithm())}
	if err = p.begin(ctx); err == nil {
		err = p.takeOver(ctx, passed)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close(true))
	}
	return p, nil
}

// openData opens and locks the data file of a blob.
//
// All processes try the same names in the same order and so agree on one file, also where somebody has put
// a link, a pipe or a directory under the first of them. Where none can be used, or none can be locked, the
// file gets a name that nobody else knows; where several callers have such files, the last rename counts.
func (d *Dir) openData(final string, passed int) (dataFile, error) {
	for n := passed; n < sharedNames; n++ {
		name := dataName(final, n)
		f, err := openLocked(d.folder, name)
		if errors.Is(err, filelock.ErrUnsupported) {
			break
		}
		if errors.Is(err, filelock.ErrBusy) {
			return dataFile{}, d.folder.claimedBy(final, n)
		}
		if !unusable(err) {
			return f, err
		}
		d.stale.add(name)
	}
	return openUnique(d.folder, final)
}

// begin makes the partial ready to be written, once its data file was locked. The blob may have been finished
// before that.
func (p *Partial) begin(ctx context.Context) error {
	done, err := p.finalNames.finished(p.name, p.record.size)
	if err != nil {
		return err
	}
	if done {
		err := p.data.folder.doneMeanwhile(p.name)
		p.record.state.fail(err) // nobody needs what was left
		p.stale.sweep(p.name, true)
		return err
	}
	p.stale.sweep(p.name, false)
	if p.data.fresh && p.record.large() {
		makeSparse(p.data.File)
	}
	if err := (resumption{p.name, &p.data, &p.record, p.stale}).run(); err != nil {
		if !retry.NoDescriptor(err) {
			p.record.state.failWrite(err)
		}
		return err
	}
	p.resumed = true
	if p.record.large() {
		p.hasher.start()
		return nil
	}
	if err := p.hasher.advance(ctx); err != nil {
		return p.hasher.readFailed(ctx, err)
	}
	return nil
}
