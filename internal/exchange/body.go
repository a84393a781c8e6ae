package exchange

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Slot is the permission to move a body. A caller keeps one from request to request where the first asks
// for a URL that is soon too old for the second: nothing is waited for between them. The zero value is
// none. It is used by one request at a time.
type Slot struct {
	held atomic.Pointer[pace.Slot] // nil before it was got, and after the body was sent
}

// Close gives the slot back, and lets others send.
func (s *Slot) Close() { s.held.Swap(nil).Release() }

// open opens the body of the request. Nil means that it has none.
func (f *flight) open() (body io.ReadCloser, err error) {
	switch {
	case f.req.Data != nil:
		body = io.NopCloser(bytes.NewReader(f.req.Data))
	case f.req.Caller != nil && writes(f.req.Method):
		resume := f.aside() // what lies before the body in a file may be hashed first
		body, err = f.req.Caller.Body()
		resume()
	}
	if body == nil || err != nil {
		return nil, err
	}
	if f.req.Length > 0 {
		f.watch.Allow(0)
		f.linkTime.Store(0)
	}
	return &requestBody{ReadCloser: body, f: f, remaining: f.req.Length}, nil
}

// reopen opens the body for a transport that sends it again, though its slot was given back when it was sent.
func (f *flight) reopen() (io.ReadCloser, error) {
	f.sent.Store(false)
	if err := f.await(new(wire.Target), true); err != nil {
		return nil, err
	}
	return f.open()
}

// moved counts n bytes of a body, and waits until the rate allows them.
func (f *flight) moved(n int) error {
	if n == 0 {
		return nil
	}
	f.watch.Moved(n)
	f.slot.held.Load().Moved(n)
	if f.x.Rate == nil {
		return nil
	}
	f.watch.Pause()
	defer f.watch.Resume()
	return f.x.Rate.Pay(f.watch.Context(), n)
}

// requestBody is the body of a request.
type requestBody struct {
	io.ReadCloser
	f         *flight
	remaining int64
	strides   strides
}

func (b *requestBody) Read(p []byte) (int, error) {
	p = p[:b.f.x.Rate.Chunk(b.strides.next(len(p)))]
	b.f.watch.Pause() // the disk may take as long as it likes
	n, err := b.ReadCloser.Read(p)
	b.f.watch.Resume()
	b.remaining -= int64(n)
	if n > 0 && b.remaining == 0 {
		b.f.sent.Store(true)
		link := b.strides.linkTime(b.f.req.Length)
		b.f.linkTime.Store(int64(link))
		b.f.watch.Allow(b.f.req.DigestTime + b.f.req.AnswerTime + link)
		defer b.f.slot.Close() // others may send while the registry digests this one
	}
	if paid := b.f.moved(n); paid != nil && (err == nil || err == io.EOF) {
		err = paid
	}
	b.strides.given(n)
	return n, err
}

const (
	// shareOfAnswer is how many bytes of an answer that is no blob have to come in each stall timeout. Who
	// waits for it sees no progress: a server that sends a byte now and then must not keep a call for days.
	shareOfAnswer = 4 << 10 // 4 KiB

	// endTime is how long the end of a stream is waited for whose bytes have all come. It follows at once.
	endTime = 50 * time.Millisecond
)

// answerBody is the body of an answer.
type answerBody struct {
	body io.ReadCloser
	f    *flight
	blob bool  // and not what a registry says
	came int   // bytes that the watchdog was not told of
	read int64 // bytes in all
	err  error // of the last Read
}

var _ io.ReadCloser = (*answerBody)(nil)

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p[:b.f.x.Rate.Chunk(int64(len(p)))])
	b.read += int64(n)
	began := n > 0 && !b.f.begun.Swap(true)
	if began {
		b.f.watch.Allow(0) // it is to go on
	}
	if b.blob {
		if paid := b.f.moved(n); paid != nil && err == nil {
			err = paid
		}
	} else if b.came += n; began || b.came >= shareOfAnswer {
		b.f.watch.Moved(b.came)
		b.came = 0
	}
	if err != nil && err != io.EOF {
		err = b.f.unanswered(b.f.watch.Reason(err))
	}
	b.err = err
	return n, err
}

// Close gives the slot back and ends the watch.
func (b *answerBody) Close() error {
	if b.err == nil && b.read == b.f.resp.ContentLength {
		b.awaitEnd()
	}
	err := b.body.Close()
	if b.err == io.EOF {
		b.err = nil
	}
	_ = b.f.end(b.err)
	return err
}

// awaitEnd reads the end of a stream. Over HTTP/2 it comes after the last byte, and a stream that is closed
// before is reset: a server that counts resets would take many for an attack (CVE-2023-44487).
func (b *answerBody) awaitEnd() {
	late := time.AfterFunc(endTime, b.f.watch.Cancel)
	defer late.Stop()
	var one [1]byte
	_, _ = b.body.Read(one[:])
}
