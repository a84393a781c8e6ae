package serve

import (
	"io"
	"math"
	"net/http"
	"time"
)

const (
	// maxSilence is how long a body may bring nothing, or a client may take for the next writePiece.
	maxSilence = time.Minute

	// maxBodyTime is how long a body may take in all: a file of 100 GB at 10 Mbit/s takes 22 hours.
	maxBodyTime = 24 * time.Hour

	// writePiece is what a client must read within maxSilence.
	writePiece = 1 << 20 // 1 MiB
)

// timedBody is the body of a request that has to come in time.
type timedBody struct {
	io.ReadCloser
	conn *http.ResponseController
	end  time.Time
}

func newTimedBody(w http.ResponseWriter, body io.ReadCloser) *timedBody {
	return &timedBody{body, http.NewResponseController(w), time.Now().Add(maxBodyTime)}
}

// Read waits for no longer than the body may be silent. A connection that knows no deadlines has none.
func (b *timedBody) Read(p []byte) (int, error) {
	deadline := time.Now().Add(maxSilence)
	if deadline.After(b.end) {
		deadline = b.end
	}
	_ = b.conn.SetReadDeadline(deadline)
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.conn.SetReadDeadline(time.Time{}) // what follows is the work of this side
	}
	return n, err
}

// timedWriter is an answer that has to be read in time.
type timedWriter struct {
	http.ResponseWriter
	conn *http.ResponseController
}

var _ io.ReaderFrom = (*timedWriter)(nil)

func newTimedWriter(w http.ResponseWriter) *timedWriter {
	t := &timedWriter{w, http.NewResponseController(w)}
	_ = t.conn.SetWriteDeadline(time.Time{}) // of the answer before this one
	return t
}

// extend gives the client time for what is written next. A connection that knows no deadlines has none.
func (w *timedWriter) extend() { _ = w.conn.SetWriteDeadline(time.Now().Add(maxSilence)) }

func (w *timedWriter) Write(p []byte) (int, error) {
	w.extend()
	return w.ResponseWriter.Write(p)
}

// ReadFrom sends a file piece by piece, each as the operating system does it best.
func (w *timedWriter) ReadFrom(from io.Reader) (sent int64, err error) {
	left := int64(math.MaxInt64)
	if limited, ok := from.(*io.LimitedReader); ok {
		from, left = limited.R, limited.N // or the file behind two limits would be copied by hand
	}
	for sent < left && err == nil {
		w.extend()
		var n int64
		n, err = io.CopyN(w.ResponseWriter, from, min(left-sent, writePiece))
		sent += n
	}
	if err == io.EOF {
		err = nil
	}
	return sent, err
}
