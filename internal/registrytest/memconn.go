package registrytest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// memBuffer is how many bytes one direction of an in-memory connection holds
// before its writer has to wait: as much as a socket buffer.
const memBuffer = 64 << 10

// memAddr is the address of one end of an in-memory connection.
type memAddr string

func (memAddr) Network() string  { return "tcp" }
func (a memAddr) String() string { return string(a) }

// memConn is one end of a buffered connection in memory. Unlike those of net.Pipe its writes do not wait for
// the reader, and unlike a socket it blocks only in ways that testing/synctest sees.
type memConn struct {
	in, out       *stream
	local, remote memAddr
}

var _ net.Conn = (*memConn)(nil)

// memPipe returns the two ends of a new connection.
func memPipe(client, server memAddr) (*memConn, *memConn) {
	up, down := newStream(), newStream()
	return &memConn{in: down, out: up, local: client, remote: server},
		&memConn{in: up, out: down, local: server, remote: client}
}

// Read reads what the peer wrote. It returns io.EOF after the peer has closed the connection and ECONNRESET
// after it has reset it, in both cases after all that was written before.
func (c *memConn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.opError("read", err)
}

// Write queues p for the peer and waits only while the buffer is full. It
// returns ECONNRESET when the peer is gone.
func (c *memConn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.opError("write", err)
}

// Drained returns how many bytes the peer has read.
func (c *memConn) Drained() int64 {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.drained
}

// Close ends the connection: the peer reads what was written, then io.EOF.
func (c *memConn) Close() error { return c.CloseWithError(io.EOF) }

// CloseWithError closes the connection and lets the peer read err after what was
// written before. ECONNRESET looks like a TCP reset.
func (c *memConn) CloseWithError(err error) error {
	c.in.closeRead() // first, so that a peer that is writing learns why before it gives up
	c.out.closeWrite(err)
	return nil
}

// Gone is closed when the peer has closed the connection.
func (c *memConn) Gone() <-chan struct{} { return c.in.ended }

// LocalAddr returns the address of this end.
func (c *memConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the peer.
func (c *memConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *memConn) SetDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

// SetReadDeadline sets when a Read gives up with os.ErrDeadlineExceeded.
func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

// SetWriteDeadline sets when a Write gives up with os.ErrDeadlineExceeded.
func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

func (c *memConn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// deadline is a moment and the timer that wakes those who wait for it.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

// stream is one direction of a connection.
type stream struct {
	ended chan struct{} // closed when the writer has closed

	mu      sync.Mutex // guards the fields that follow
	changed *sync.Cond
	buf     []byte
	off     int   // where what was not read begins in buf
	drained int64 // bytes that were read
	err     error // what the reader gets after buf; nil while the writer is there
	deaf    bool  // the reader has closed
	readBy  deadline
	writeBy deadline
}

func newStream() *stream {
	s := &stream{ended: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.deaf:
			return 0, net.ErrClosed
		case s.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(s.buf) > s.off:
			n := copy(p, s.buf[s.off:])
			s.off += n
			s.drained += int64(n)
			s.changed.Broadcast()
			return n, nil
		case s.err != nil:
			return 0, s.err
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := 0
	for {
		switch {
		case s.deaf:
			return sent, syscall.ECONNRESET
		case s.err != nil:
			return sent, net.ErrClosed
		case s.writeBy.passed():
			return sent, os.ErrDeadlineExceeded
		case sent == len(p):
			return sent, nil
		case len(s.buf)-s.off < memBuffer:
			n := min(len(p)-sent, memBuffer-len(s.buf)+s.off)
			s.makeSpace(n)
			s.buf = append(s.buf, p[sent:sent+n]...)
			sent += n
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

// makeSpace moves what was not read to the front where n bytes more would not fit behind it. The buffer is
// twice as large as what it holds, so that this is seldom. mu is held.
func (s *stream) makeSpace(n int) {
	if s.off == len(s.buf) || len(s.buf)+n > 2*memBuffer {
		s.buf = s.buf[:copy(s.buf, s.buf[s.off:])]
		s.off = 0
	}
}

func (s *stream) closeWrite(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	s.writeBy.stop()
	close(s.ended)
	s.changed.Broadcast()
}

func (s *stream) closeRead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = true
	s.buf, s.off = nil, 0
	s.readBy.stop()
	s.changed.Broadcast()
}

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	*d = deadline{at: t}
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, s.wake)
	}
	s.changed.Broadcast()
}

// wake takes the lock so that no waiter can miss it between its look at the clock and its wait.
func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}
