package registrytest

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
)

// Mode is the protocol a server speaks.
type Mode int

// The modes: HTTP/1.1 in the clear, HTTP/1.1 over TLS, HTTP/2 over TLS.
const (
	H1 Mode = iota
	H1TLS
	H2
)

// Modes returns all modes, for tests that run in each.
func Modes() []Mode { return []Mode{H1, H1TLS, H2} }

// String names the mode for subtests.
func (m Mode) String() string {
	switch m {
	case H1:
		return "h1"
	case H1TLS:
		return "h1tls"
	}
	return "h2"
}

func (m Mode) scheme() string {
	if m == H1 {
		return "http"
	}
	return "https"
}

// Server is a running server.
type Server struct {
	// URL is the server's base URL, without a trailing slash.
	URL string

	// Client reaches the server and, in memory, every other of its network.
	Client *http.Client

	http    *http.Server
	done    chan struct{}
	once    sync.Once
	serving *tally // the accept loop, connections and handlers
}

// Serve serves h on a loopback socket until the test ends.
func Serve(t testing.TB, h http.Handler, mode Mode) *Server {
	t.Helper()
	s, err := Start(h, mode)
	if err != nil {
		t.Fatalf("registrytest: %v", err)
	}
	t.Cleanup(func() {
		s.Close()
		s.Client.CloseIdleConnections()
	})
	return s
}

// ServeInMemory serves h as "registry.test" without sockets until the test ends.
// It works inside a testing/synctest bubble.
func ServeInMemory(t testing.TB, h http.Handler, mode Mode) *Server {
	t.Helper()
	return NewNetwork(t).Serve("registry.test", h, mode)
}

// Start serves h on a loopback socket until it is closed, where there is no test that would end it.
func Start(h http.Handler, mode Mode) (*Server, error) {
	trust, err := newAuthority()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s, err := trust.start(l, &url.URL{Scheme: mode.scheme(), Host: l.Addr().String()}, h, mode)
	if err != nil {
		return nil, err
	}
	s.Client = &http.Client{Transport: trust.transport()}
	return s, nil
}

// Serve serves h under a host name, "registry.test" or "registry.test:5000", until the test ends. A name that
// is taken fails the test.
func (n *Network) Serve(name string, h http.Handler, mode Mode) *Server {
	n.t.Helper()
	u := &url.URL{Scheme: mode.scheme(), Host: name}
	l, err := n.listen(u)
	if err != nil {
		n.t.Fatalf("registrytest: %v", err)
	}
	s, err := n.trust.start(l, u, h, mode)
	if err != nil {
		n.t.Fatalf("registrytest: serve %q: %v", name, err)
	}
	n.t.Cleanup(s.Close)
	s.Client = n.Client()
	return s
}

// start serves h at a URL, with a certificate of the authority where that is https. On failure the listener
// is closed.
func (a *authority) start(l net.Listener, u *url.URL, h http.Handler, mode Mode) (*Server, error) {
	s, err := a.newServer(u, h, mode)
	if err != nil {
		l.Close()
		return nil, err
	}
	s.serving.add(1)
	go s.accept(l, mode)
	return s, nil
}

func (a *authority) newServer(u *url.URL, h http.Handler, mode Mode) (*Server, error) {
	s := &Server{URL: u.String(), done: make(chan struct{}), serving: newTally()}
	s.http = &http.Server{
		Handler:     s.tracked(h),
		ErrorLog:    log.New(io.Discard, "", 0), // resets and aborts are what the tests are about
		ConnContext: s.connContext,
		ConnState:   s.connState,
		Protocols:   new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(mode != H2)
	s.http.Protocols.SetHTTP2(mode == H2)
	if mode == H1 {
		return s, nil
	}
	config, err := a.server(u.Hostname())
	s.http.TLSConfig = config
	return s, err
}

func (s *Server) accept(l net.Listener, mode Mode) {
	defer s.serving.add(-1)
	if mode == H1 {
		s.http.Serve(l)
		return
	}
	s.http.ServeTLS(l, "", "")
}

// Close ends the server: stalled handlers are released, connections closed, and
// it returns when no goroutine of the server is left. It may be called again.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.done)
		s.http.Close()
	})
	s.serving.close()
}

// tracked tells the server when a handler runs. None begins once the server is closed: HTTP/2 starts a
// handler as a goroutine of its own, which may first run when its connection is gone.
func (s *Server) tracked(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.serving.enter() {
			return
		}
		defer s.serving.add(-1)
		h.ServeHTTP(w, r)
	})
}

func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.serving.add(1)
	case http.StateClosed, http.StateHijacked:
		s.serving.add(-1)
	}
}

func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, linkKey{}, &link{conn: c, done: s.done})
}
