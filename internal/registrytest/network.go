package registrytest

import (
	"context"
	"crypto/x509"
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

// Network joins servers under host names of the test's choice, so that one client reaches a registry and its
// CDN as hosts of their own. It has a certificate authority that its clients trust.
type Network struct {
	t      testing.TB // nil where there is no test
	memory bool
	trust  *authority

	mu    sync.Mutex // guards the fields that follow
	hosts map[string]*host
	dials map[string]int
}

// host is what answers for one "name:port".
type host struct {
	addr string       // loopback address
	mem  *memListener // in memory
	down error        // why it cannot be dialled, or nil
}

// NewNetwork returns a network in memory. Made inside a testing/synctest bubble,
// it works there, with t the bubble's own.
func NewNetwork(t testing.TB) *Network { return networkOf(t, true) }

// NewLoopback returns a network of loopback sockets under made-up names.
func NewLoopback(t testing.TB) *Network { return networkOf(t, false) }

func networkOf(t testing.TB, memory bool) *Network {
	t.Helper()
	n, err := newNetwork(memory)
	if err != nil {
		t.Fatalf("registrytest: %v", err)
	}
	n.t = t
	return n
}

func newNetwork(memory bool) (*Network, error) {
	trust, err := newAuthority()
	return &Network{memory: memory, trust: trust, hosts: map[string]*host{}, dials: map[string]int{}}, err
}

// Transport returns a new transport that dials only this network, trusts its certificates and speaks HTTP/1.1
// as well as HTTP/2. Its idle connections are closed when the test ends.
func (n *Network) Transport() *http.Transport {
	tr := n.transport()
	n.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func (n *Network) transport() *http.Transport {
	tr := &http.Transport{
		DialContext:     n.DialContext,
		TLSClientConfig: n.trust.client(),
		Protocols:       new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(true)
	tr.Protocols.SetHTTP2(true)
	return tr
}

// Client returns a new client with a [Network.Transport] of its own.
func (n *Network) Client() *http.Client { return &http.Client{Transport: n.Transport()} }

// RootCAs returns the pool that has the network's certificate authority.
func (n *Network) RootCAs() *x509.CertPool { return n.trust.pool }

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
	h, err := n.lookup(addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: memAddr(addr), Err: err}
	}
	if h.mem != nil {
		return h.mem.dial(ctx)
	}
	return new(net.Dialer).DialContext(ctx, network, h.addr)
}

func (n *Network) lookup(addr string) (host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[addr]++
	h := n.hosts[addr]
	switch {
	case h != nil && h.down != nil:
		return host{}, h.down
	case h != nil && (h.mem != nil || h.addr != ""):
		return *h, nil
	}
	name, _, _ := net.SplitHostPort(addr)
	return host{}, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// listen opens the listener of a host and enters it under its name. Without a
// name the host is called by the loopback address it got.
func (n *Network) listen(name string, mode Mode) (net.Listener, *url.URL, error) {
	u := &url.URL{Scheme: mode.scheme(), Host: name}
	if n.memory {
		l := newMemListener(memAddr(hostPort(u)))
		return l, u, n.enter(hostPort(u), host{mem: l})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	if name == "" {
		u.Host = l.Addr().String()
	}
	return l, u, n.enter(hostPort(u), host{addr: l.Addr().String()})
}

func (n *Network) enter(key string, h host) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.hosts[key]
	if old != nil && (old.mem != nil || old.addr != "") {
		return errors.New("host " + strconv.Quote(key) + " is served already")
	}
	if old != nil {
		h.down = old.down
	}
	n.hosts[key] = &h
	return nil
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
