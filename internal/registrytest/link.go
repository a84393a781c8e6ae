package registrytest

import (
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/modeltransfer/transfer/internal/wire"
)

// linkKey is the context key of a request's *link.
type linkKey struct{}

// link is the connection beneath a request, and the end of its server.
type link struct {
	conn net.Conn
	done <-chan struct{} // closed with the server
}

// linkOf returns the connection beneath r. A request that did not come through
// one of this package's servers has an empty one.
func linkOf(r *http.Request) *link {
	if l, ok := r.Context().Value(linkKey{}).(*link); ok {
		return l
	}
	return &link{}
}

// reset ends the connection so that the peer reads what was written and then ECONNRESET.
func (l *link) reset() {
	switch c := l.conn.(type) {
	case *memConn:
		c.CloseWithError(syscall.ECONNRESET)
	case *net.TCPConn:
		drain(c)
		c.SetLinger(0)
		c.Close()
	}
}

// drainPatience bounds the wait for a client that has stopped reading.
const drainPatience = 2 * time.Second

// drain waits until the peer's kernel has all that was written to c, where that can be told: a reset throws
// away what is still on its way.
func drain(c *net.TCPConn) {
	waiting := wire.Drained(c)
	for end := time.Now().Add(drainPatience); waiting() > 0 && time.Now().Before(end); {
		time.Sleep(100 * time.Microsecond)
	}
}

// gone returns a channel that is closed when the peer has closed an in-memory connection, which no one else
// would notice while a body is left unread. It is nil for others.
func (l *link) gone() <-chan struct{} {
	if c, ok := l.conn.(*memConn); ok {
		return c.Gone()
	}
	return nil
}

// await waits until the client of r, its connection or the server is gone.
func await(r *http.Request) { isThere(r, nil) }

// pause waits for d and reports whether the client of r is still there.
func pause(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	return isThere(r, timer.C)
}

// isThere waits until the client of r, its connection or the server is gone, and reports whether it is there
// still when the time comes.
func isThere(r *http.Request, then <-chan time.Time) bool {
	l := linkOf(r)
	select {
	case <-then:
		return true
	case <-r.Context().Done():
	case <-l.gone():
	case <-l.done:
	}
	return false
}
