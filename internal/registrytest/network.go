package registrytest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Network joins servers in memory under host names of the test's choice, so that one client reaches a
// registry and its CDN as hosts of their own. It has a certificate authority that its clients trust.
type Network struct {
	t     testing.TB
	trust *authority

	mu    sync.Mutex // guards the fields that follow
	hosts map[string]*host
	dials map[string]int
}

// host is what answers for one "name:port".
type host struct {
	listener *memListener // nil: nobody listens
	down     error        // why it cannot be dialled, or nil
}

// NewNetwork returns a network. Made inside a testing/synctest bubble, it works there, with t the bubble's
// own.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	trust, err := newAuthority()
	if err != nil {
		t.Fatalf("registrytest: %v", err)
	}
	return &Network{t: t, trust: trust, hosts: map[string]*host{}, dials: map[string]int{}}
}

// Transport returns a new transport that dials only this network, trusts its certificates and speaks HTTP/1.1
// as well as HTTP/2. Its idle connections are closed when the test ends.
func (n *Network) Transport() *http.Transport {
	tr := n.trust.transport()
	tr.DialContext = n.DialContext
	n.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// Client returns a new client with a [Network.Transport] of its own.
func (n *Network) Client() *http.Client { return &http.Client{Transport: n.Transport()} }

// Down makes every later dial of the host fail with err; nil brings it back. The
// host is written as for [Network.Serve], or "name:port", and need not be
// served. [Refused] is the error of a port where nobody listens.
func (n *Network) Down(name string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range keys(name) {
		if n.hosts[key] == nil {
			n.hosts[key] = &host{}
		}
		n.hosts[key].down = err
	}
}

// Refused returns the error of a connection that is refused.
func Refused() error { return os.NewSyscallError("connect", syscall.ECONNREFUSED) }

// Dials returns how often "name:port" was dialled.
func (n *Network) Dials(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[addr]
}

// DialContext connects to a host of the network. Any other name is answered like one that DNS does not know.
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	l, err := n.lookup(addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: memAddr(addr), Err: err}
	}
	return l.dial(ctx)
}

func (n *Network) lookup(addr string) (*memListener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[addr]++
	h := n.hosts[addr]
	switch {
	case h != nil && h.down != nil:
		return nil, h.down
	case h != nil && h.listener != nil:
		return h.listener, nil
	}
	name, _, _ := net.SplitHostPort(addr)
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// listen opens the listener of a host.
func (n *Network) listen(u *url.URL) (net.Listener, error) {
	key := hostPort(u)
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[key]
	switch {
	case h == nil:
		h = &host{}
		n.hosts[key] = h
	case h.listener != nil:
		return nil, errors.New("host " + strconv.Quote(key) + " is served already")
	}
	h.listener = newMemListener(memAddr(key))
	return h.listener, nil
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// keys returns every "name:port" that a name without a port may stand for.
func keys(name string) []string {
	if _, _, err := net.SplitHostPort(name); err == nil {
		return []string{name}
	}
	return []string{net.JoinHostPort(name, "80"), net.JoinHostPort(name, "443")}
}

// memListener accepts in-memory connections.
type memListener struct {
	addr   memAddr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	ports  atomic.Int64 // numbers the clients
}

var _ net.Listener = (*memListener)(nil)

func newMemListener(addr memAddr) *memListener {
	return &memListener{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept returns the next connection, or net.ErrClosed after Close.
func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close stops Accept and refuses later dials.
func (l *memListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the address that is listened on.
func (l *memListener) Addr() net.Addr { return l.addr }

func (l *memListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := memPipe(memAddr("client:"+strconv.FormatInt(l.ports.Add(1), 10)), l.addr)
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: l.addr, Err: Refused()}
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: l.addr, Err: ctx.Err()}
	}
}
