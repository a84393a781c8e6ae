package pull

import (
	"errors"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/watchdog"
)

// PieceFetch is a piece that a worker fetches, in as many attempts as it takes.
type PieceFetch struct {
	*Blob
	Piece *pieces.Piece

	host         string    // that was asked last
	told         bool      // that it was asked
	begin        int64     // where the piece began
	slow         int       // attempts that were ended for being slow
	unanswered   int       // attempts in a row in which no byte came in time
	wrong        int       // answers to a request without a range that are none
	refused      bool      // a signed URL was refused, and no byte has come since
	failedAt     []*source // those that have answered 500 to a range
	rangeRefused bool      // the next request is to be made without a range
}

// NewPieceFetch returns the fetch of a piece of a blob.
func NewPieceFetch(b *Blob, p *pieces.Piece) *PieceFetch {
	return &PieceFetch{Blob: b, Piece: p, begin: p.Pos()}
}

// Host is the host that was asked last.
func (p *PieceFetch) Host() string { return p.host }

// count notes how an attempt has ended, for the next one.
func (p *PieceFetch) count(err error) {
	switch {
	case watchdog.IsSlow(err):
		p.slow++
	case errors.Is(err, exchange.ErrUnanswered):
		p.unanswered++
	}
}
