package pull

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

const (
	// bufferSize is how much is read and written at once.
	bufferSize = 128 << 10 // 128 KiB

	// gatherTime is how long what was read waits for more before it is written.
	gatherTime = 20 * time.Millisecond
)

// body is the body of the answer to an attempt, and where its bytes go.
type body struct {
	*exchange.Response
	*attempt
	to io.Writer
}

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// takeWhole takes the piece out of a body that is the whole blob, and goes on with the ranges behind it that
// nobody has taken.
//
// Of several workers that each get the whole blob for a piece of it, one goes on. The others would read all
// that lies before their pieces for nothing: each gives its piece back. The last of them takes the blob from
// the first byte that is missing.
func (b body) takeWhole() error {
	if b.ranged {
		if err := b.rangeIgnored(); err != nil {
			return err
		}
	}
	if b.rangeRefused {
		b.src.plain.Store(true)
	}
	if !b.whole {
		if !b.Schedule.TakeWhole(pieces.Job{Blob: b.Index, Piece: b.Piece}) {
			b.Piece.Lose()
			return retry.OtherWay(fmt.Errorf("%w: a whole blob for one of its pieces", sentinel.ErrProtocol))
		}
	} else if b.Header.Get("Accept-Ranges") == "bytes" {
		b.Schedule.RangesServed(b.Index, false)
	}
	if err := b.skip(b.Piece.Pos()); err != nil {
		return err
	}
	if err := b.copy(); err != nil {
		return err
	}
	if err := b.follow(); err != nil || b.ContentLength >= 0 || b.Piece.Pos() < b.Size {
		return err
	}
	return b.checkEnd()
}

// rangeIgnored says what the whole blob means as the answer to a range; nil where it is to be taken.
func (b body) rangeIgnored() error {
	if b.src.mirror {
		b.mirrors.ignoredAt.Store(b.src, true)
		return nil
	}
	if b.ifRange && b.ranges.disagree() {
		return retry.OtherWay(
			fmt.Errorf("%w: the nodes of the registry disagree on the ETag", sentinel.ErrProtocol))
	}
	if again, _ := b.ranges.violate(1, b.violations); again {
		b.stale = true
		return retry.OtherWay(
			fmt.Errorf("%w: 200 to a range, though ranges were served before", sentinel.ErrProtocol))
	}
	return nil
}

// checkEnd checks that a body that did not tell its length ends with the blob.
func (b body) checkEnd() error {
	var one [1]byte
	if n, _ := io.ReadFull(b.Response.Body, one[:]); n == 0 {
		return nil
	}
	if !b.src.mirror {
		b.TooLong.Store(true)
	}
	return retry.Permanent(
		fmt.Errorf("%w: the body goes on after %d bytes", sentinel.ErrSizeMismatch, b.Size))
}

// skip reads n bytes that nobody needs. While they come nobody is idle.
func (b body) skip(n int64) error {
	began := time.Now()
	_, err := io.CopyN(io.Discard, b.Response.Body, n)
	if err != nil {
		b.Budget.Forgive(time.Since(began) - b.Watch.Silent())
		err = endedEarly(err)
	}
	return err
}

// mover is a writer that can go on at another offset.
type mover interface {
	io.Writer
	Move(off int64) error
}

// follow takes the ranges behind the piece that nobody has taken out of a body that is the whole blob: for
// each of them all of it would have to be sent again.
func (b body) follow() error {
	to, ok := b.to.(mover)
	for ok {
		var gap int64
		if gap, ok = b.Schedule.Follow(pieces.Job{Blob: b.Index, Piece: b.Piece}); !ok {
			break
		}
		if err := to.Move(b.Piece.Pos()); err != nil {
			return storeError{err}
		}
		if err := b.skip(gap); err != nil {
			return err
		}
		if err := b.copy(); err != nil {
			return err
		}
	}
	return nil
}

// endedEarly returns the error of a body that ended too early. Where it had a Content-Length, net/http has
// found that, and err says so.
func endedEarly(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w: the body ended early", sentinel.ErrSizeMismatch)
	}
	return err
}

// copy stores the body up to the end of the piece, which moves nearer when another worker takes the rest.
func (b body) copy() error {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		left := b.Piece.End() - b.Piece.Pos()
		if left <= 0 {
			return nil
		}
		n, err := b.gather(buffer[:min(left, bufferSize)])
		if n > 0 {
			if err := b.store(buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil && b.Piece.Pos() < b.Piece.End() {
			return endedEarly(err)
		}
	}
}

// gather fills the buffer, so that what comes in small portions costs few writes, but for no longer than
// gatherTime from the first byte on, so that a slow body is stored as it comes.
func (b body) gather(buffer []byte) (n int, err error) {
	n, err = b.Response.Body.Read(buffer)
	for began := time.Now(); err == nil && n < len(buffer) && time.Since(began) < gatherTime; {
		var more int
		more, err = b.Response.Body.Read(buffer[n:])
		n += more
	}
	return n, err
}

// store writes what was read, as far as the piece is still this worker's. However long the disk takes,
// neither the network nor the source is to blame for it.
func (b body) store(data []byte) error {
	if b.Piece.Pos() == b.start {
		b.src.health.answered()
	}
	data = data[:b.Piece.Take(len(data))]
	b.Watch.Pause()
	b.Piece.Pause(b.Schedule.Now())
	n, err := b.to.Write(data)
	if err == nil {
		b.Trace.Move(n)
		b.Moved(int64(n))
		b.Trace.Complete(int64(n))
	}
	b.Piece.Resume(b.Schedule.Now())
	b.Watch.Resume()
	if err != nil {
		return storeError{err}
	}
	b.unanswered, b.refused = 0, false
	b.Budget.Renew()
	return nil
}
