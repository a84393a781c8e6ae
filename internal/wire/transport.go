package wire

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// maxUnsent is how many bytes of a body wait in the kernel for their turn on a connection, besides those under way.
const maxUnsent = 256 << 10 // 256 KiB

// newTransport returns the transport for callers who bring none. It speaks
// HTTP/1.1 only: HTTP/2 would put all bodies on one TCP connection, whose one
// window and one lost packet then hold up them all.
func newTransport(conns int) *http.Transport {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 15 * time.Second, ControlContext: control}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	buffers := &sync.Pool{New: func() any { return new([bodyStride]byte) }}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return bodyConn{c, buffers}, nil
		},
		Protocols:              protocols,
		MaxIdleConnsPerHost:    conns,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    30 * time.Second,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: 1 << 20, // 1 MiB, a tenth of the default, is still far more than any registry sends
	}
}

// bodyConn sends request bodies in strides of bodyStride; without it, io.Copy would allocate a buffer for each body and send in
// strides of a quarter of that.
type bodyConn struct {
	net.Conn
	buffers *sync.Pool // of *[bodyStride]byte
}

const bodyStride = 128 << 10 // 128 KiB

func (c bodyConn) ReadFrom(r io.Reader) (int64, error) {
	buffer := c.buffers.Get().(*[bodyStride]byte)
	defer c.buffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, buffer[:])
}

type dialRule struct{}

// limitDial has the addresses checked that a name outside the registry's origin
// resolves to: Resolve sees only names, and a name can be made to stand for this machine. Behind a proxy
// the address dialled is the proxy's, which the user chose.
func (c *Client) limitDial(ctx context.Context, req *http.Request, t Target) context.Context {
	if c.own == nil || !t.Left || t.URL.Host == t.registry.base.Host {
		return ctx
	}
	if proxy, err := c.own.Proxy(req); err != nil || proxy != nil {
		return ctx
	}
	return context.WithValue(ctx, dialRule{}, t.registry)
}

func control(ctx context.Context, _, address string, c syscall.RawConn) error {
	limitUnsent(c)
	return checkDial(ctx, address)
}

func checkDial(ctx context.Context, address string) error {
	registry, limited := ctx.Value(dialRule{}).(*Registry)
	if !limited {
		return nil
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil || registry.mayReach(addrReach(addr.Addr())) {
		return nil
	}
	return fmt.Errorf("%w: the name stands for %s, an address of this machine or link, while the registry is elsewhere",
		ErrRedirectRefused, addr.Addr())
}
