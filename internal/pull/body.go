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

	// roomSize is the most that room is asked for at once: a larger blob comes in pieces.
	roomSize = 8 << 20 // 8 MiB

	// tinySize is the size up to which a piece of a large blob costs no more than a small blob.
	tinySize = 16 << 10 // 16 KiB
)

// body is the body of an answer, and what its bytes are for.
type body struct {
	*exchange.Response
	src   *source
	start int64 // of the piece, when the body was asked for
	to    io.Writer
}

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// takeWhole takes the piece out of a body that is the whole blob, and with it all that follows and nobody has
// taken.
//
// Where other workers have pieces of the blob, each would read all that lies before its own. So it gives its
// piece back, and the last of them takes the blob from the first byte that is missing.
func (s *Sources) takeWhole(r *Request, a *asked, b body) error {
	if a.ranged {
		if err := s.rangeIgnored(r, a); err != nil {
			return err
		}
	}
	if a.src.plain.Store(a.src.plain.Load() || r.rangeRefused); !a.whole {
		job := pieces.Job{Blob: r.Index, Piece: r.Piece}
		if !s.Schedule.TakeWhole(job) {
			r.Piece.Lose()
			return retry.OtherWay(fmt.Errorf("%w: a whole blob for one of its pieces", sentinel.ErrProtocol))
		}
	} else if b.Header.Get("Accept-Ranges") == "bytes" {
		s.Schedule.RangesServed(r.Index)
	}
	if at := r.Piece.Pos(); at > 0 {
		if _, err := io.CopyN(io.Discard, b.Body, at); err != nil {
			return short(err)
		}
	}
	if err := s.copy(r, b); err != nil {
		return err
	}
	if err := s.follow(r, b); err != nil || b.ContentLength >= 0 || r.Piece.Pos() < r.Size {
		return err
	}
	var one [1]byte
	if n, _ := io.ReadFull(b.Body, one[:]); n > 0 {
		if !a.src.mirror {
			r.TooLong.Store(true)
		}
		return retry.Permanent(fmt.Errorf("%w: the body goes on after %d bytes", sentinel.ErrSizeMismatch, r.Size))
	}
	return nil
}

// Mover is a writer that can go on at another offset.
type Mover interface {
	io.Writer
	Move(off int64) error
}

// follow takes all that nobody has taken behind the piece out of a body that is the whole blob: for each of
// these ranges all of it would have to be sent again.
func (s *Sources) follow(r *Request, b body) error {
	mover, ok := b.to.(Mover)
	for ok {
		var gap int64
		if gap, ok = s.Schedule.Follow(pieces.Job{Blob: r.Index, Piece: r.Piece}); !ok {
			break
		}
		if err := mover.Move(r.Piece.Pos()); err != nil {
			return &StoreError{err}
		}
		if _, err := io.CopyN(io.Discard, b.Body, gap); err != nil {
			return short(err)
		}
		if err := s.copy(r, b); err != nil {
			return err
		}
	}
	return nil
}

// short returns the error of a body that ended too early. Where it had a Content-Length, net/http has found
// that, and err says so.
func short(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w: the body ended early", sentinel.ErrSizeMismatch)
	}
	return err
}

// copy stores the body up to the end of the piece, which moves nearer when another worker takes the rest.
func (s *Sources) copy(r *Request, b body) error {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		left := r.Piece.End() - r.Piece.Pos()
		if left <= 0 {
			return nil
		}
		n, err := s.gather(b.Body, buffer[:min(left, bufferSize)])
		if n > 0 {
			if err := s.store(r, b, buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil && r.Piece.Pos() < r.Piece.End() {
			return short(err)
		}
	}
}

// gather fills the buffer, so that what comes in small portions costs few writes, but for no longer than
// gatherTime from the first byte on, so that a slow body is stored as it comes.
func (s *Sources) gather(body io.Reader, buffer []byte) (n int, err error) {
	n, err = body.Read(buffer)
	for began := s.now(); err == nil && n < len(buffer) && s.now()-began < gatherTime; {
		var more int
		more, err = body.Read(buffer[n:])
		n += more
	}
	return n, err
}

// store writes what was read, as far as the piece is still this worker's. However long the disk takes, neither
// the network nor the source is to blame for it.
func (s *Sources) store(r *Request, b body, data []byte) error {
	if r.Piece.Pos() == b.start {
		b.src.health.answered()
	}
	data = data[:r.Piece.Claim(len(data))]
	b.Hold()
	r.Piece.Pause(s.now())
	_, err := b.to.Write(data)
	r.Piece.Resume(s.now())
	b.Release()
	if err != nil {
		return &StoreError{err}
	}
	r.unanswered, r.refused = 0, false
	r.Budget.Renew()
	s.OnStored(r.Blob, len(data))
	return nil
}
