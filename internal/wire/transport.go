package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	// maxUnsent is how many bytes of a body wait in the kernel for their turn on a connection, besides
	// those under way.
	maxUnsent = 256 << 10 // 256 KiB

	// bodyStride is how many bytes of a request body are sent at once.
	bodyStride = 128 << 10 // 128 KiB

	// continueTimeout is how long a body waits for the server to ask for it. Not all servers do.
	continueTimeout = time.Second
)

// NewTransport returns the transport for callers who bring none, and for those who change only its TLS. It
// keeps conns idle connections to a host. It speaks HTTP/1.1 only: HTTP/2 would put all bodies on one TCP
// connection, and one lost packet would hold up them all.
func NewTransport(conns int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           guardDial(newDialer()),
		Protocols:             protocols,
		MaxIdleConnsPerHost:   conns,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   30 * time.Second,
		ExpectContinueTimeout: continueTimeout,

		// A tenth of the default is still far more than any registry sends.
		MaxResponseHeaderBytes: 1 << 20, // 1 MiB
	}
}

// newDialer returns the dialer of transports that have none of their own.
func newDialer() dialFunc {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 15 * time.Second, ControlContext: control}
	return inStrides(dialer.DialContext)
}

// guardTransport returns a copy of a caller's transport that checks the addresses it dials. The copy has
// connections of its own, so that none of them was dialled for somebody else.
//
// Who sets only TLS in it has not thought of the rest: without a dialer it gets the one of NewTransport, and
// without a number of idle connections it keeps conns, since net/http keeps two.
//
// A body that waits to be asked for (RFC 9110 section 10.1.1) does so in the copy even where the caller
// set no time for it: an answer that does not want the body, such as a redirect, would otherwise cost it,
// and often the connection with the answer on it.
func guardTransport(t *http.Transport, conns int) *http.Transport {
	guarded := t.Clone()
	if t.TLSNextProto["h2"] != nil && guarded.TLSNextProto == nil {
		guarded.ForceAttemptHTTP2 = true // a dialer of one's own turns HTTP/2 off
	}
	if guarded.ExpectContinueTimeout <= 0 {
		guarded.ExpectContinueTimeout = continueTimeout
	}
	if guarded.MaxIdleConnsPerHost == 0 {
		guarded.MaxIdleConnsPerHost = conns
	}
	switch {
	case t.DialContext != nil:
		guarded.DialContext = guardDial(t.DialContext)
	//lint:ignore SA1019 callers may still set it
	case t.Dial != nil:
		//lint:ignore SA1019 as above
		guarded.DialContext = guardDial(ignoreContext(t.Dial))
	default:
		guarded.DialContext = guardDial(newDialer())
	}
	switch {
	case t.DialTLSContext != nil:
		guarded.DialTLSContext = guardDial(t.DialTLSContext)
	//lint:ignore SA1019 as above
	case t.DialTLS != nil:
		//lint:ignore SA1019 as above
		guarded.DialTLSContext = guardDial(ignoreContext(t.DialTLS))
	}
	return guarded
}

// inStrides returns a dialer whose connections send request bodies in strides of bodyStride. Without it,
// io.Copy would allocate a buffer for each body and send in strides of a quarter of that.
func inStrides(dial dialFunc) dialFunc {
	buffers := &sync.Pool{New: func() any { return new([bodyStride]byte) }}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		begun := time.Now()
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return bodyConn{c, buffers, time.Since(begun)}, nil
	}
}

// bodyConn sends request bodies through its buffers.
type bodyConn struct {
	net.Conn
	buffers *sync.Pool // of *[bodyStride]byte
	dialed  time.Duration
}

var _ io.ReaderFrom = bodyConn{}

// DialTime returns how long it took to make the connection.
func (c bodyConn) DialTime() time.Duration { return c.dialed }

func (c bodyConn) ReadFrom(r io.Reader) (int64, error) {
	buffer := c.buffers.Get().(*[bodyStride]byte)
	defer c.buffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, buffer[:])
}

// DialTime returns how long it took to make a connection, which is at least a round trip to the server or to
// its proxy. Zero means that it is not known.
func DialTime(c net.Conn) time.Duration {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	if made, ok := c.(interface{ DialTime() time.Duration }); ok {
		return made.DialTime()
	}
	return 0
}

// Drained returns what changes whenever the peer gets more of what was written to a connection. It is nil
// where that cannot be told, and where several requests share the connection.
func Drained(c net.Conn) func() int64 {
	for {
		switch under := c.(type) {
		case *tls.Conn:
			if under.ConnectionState().NegotiatedProtocol == "h2" {
				return nil
			}
			c = under.NetConn()
		case bodyConn:
			c = under.Conn
		case interface{ Drained() int64 }:
			return under.Drained
		case syscall.Conn:
			raw, err := under.SyscallConn()
			if err != nil {
				return nil
			}
			return func() int64 { return int64(unacked(raw)) }
		default:
			return nil
		}
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func ignoreContext(dial func(network, address string) (net.Conn, error)) dialFunc {
	return func(_ context.Context, network, address string) (net.Conn, error) {
		return dial(network, address)
	}
}

// dialRule is what a dial for a target may reach. It travels in the context of the request.
//
// [Target.Resolve] sees only names, and a name can be made to stand for this machine. So the addresses
// are checked that a name outside the registry's origin stands for.
type dialRule struct {
	Target
	home bool // the target is the registry, which may be anywhere: the user has chosen it
}

type dialRuleKey struct{}

// withDialRule adds the rule for a target, if there is one, to the context of a request.
func (c *Client) withDialRule(ctx context.Context, t Target) context.Context {
	home := !t.Left || t.URL.Host == t.registry.base.Host
	known := !c.guarded || t.registry.dialed.Load() != 0
	if c.own == nil || home && known {
		return ctx
	}
	return context.WithValue(ctx, dialRuleKey{}, &dialRule{t, home})
}

// address returns the address of the target as net/http dials it.
func (r *dialRule) address() string { return net.JoinHostPort(r.URL.Hostname(), port(r.URL)) }

// guardDial returns the dialer with the rule of the request applied. When the address is another one than
// the target's, it is that of a proxy, which the user has chosen, and there is no rule.
//
// A dialer that leads all names to one place, such as a tunnel, also finds the registry there. That place
// is then allowed.
func guardDial(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		rule, _ := ctx.Value(dialRuleKey{}).(*dialRule)
		switch {
		case rule == nil:
			return dial(ctx, network, address)
		case rule.address() != address:
			return dial(context.WithValue(ctx, dialRuleKey{}, (*dialRule)(nil)), network, address)
		}
		if err := checkDial(ctx, address); err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, address)
		if err != nil || conn == nil || conn.RemoteAddr() == nil {
			return conn, err
		}
		reached := conn.RemoteAddr().String()
		if rule.home {
			if ip, err := netip.ParseAddrPort(reached); err == nil {
				rule.registry.dialed.Store(int32(addrReach(ip.Addr())) + 1)
			}
			return conn, nil
		}
		if err := checkDial(ctx, reached); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

func control(ctx context.Context, _, address string, c syscall.RawConn) error {
	limitUnsent(c)
	return checkDial(ctx, address)
}

// checkDial refuses an address that the rule in the context does not allow. A name, or an address of
// another network than IP, is not judged.
func checkDial(ctx context.Context, address string) error {
	rule, _ := ctx.Value(dialRuleKey{}).(*dialRule)
	if rule == nil || rule.home {
		return nil
	}
	ip, err := netip.ParseAddrPort(address)
	if err != nil || rule.registry.mayDial(addrReach(ip.Addr())) {
		return nil
	}
	return fmt.Errorf("%w: the name stands for %s, %s", ErrRedirectRefused, ip.Addr(), reachRefused)
}
