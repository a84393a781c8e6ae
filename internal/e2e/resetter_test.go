package e2e

import (
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// resetter is a TCP proxy that resets each connection once a number of bytes has gone
// through it from the client to the server.
type resetter struct {
	url, upstream string
	forwarded     atomic.Int64 // bytes from clients to the server
	resets        atomic.Int64 // connections

	limit func() int64 // of the next connection; called by one goroutine

	mu    sync.Mutex // guards the field that follows
	conns []net.Conn
}

// newResetter stands in front of s until the test ends.
func newResetter(t testing.TB, s *server, limit func() int64) *resetter {
	t.Helper()
	u, err := url.Parse(s.url)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &resetter{url: "http://" + l.Addr().String(), upstream: u.Host, limit: limit}
	var all sync.WaitGroup
	all.Go(func() { p.accept(l, &all) })
	t.Cleanup(func() {
		l.Close()
		p.closeAll()
		all.Wait()
	})
	return p
}

// between returns random limits, the same ones for the same seed.
func between(seed uint64, least, most int64) func() int64 {
	r := rand.New(rand.NewPCG(seed, 0))
	return func() int64 { return least + r.Int64N(most-least) }
}

func (p *resetter) accept(l net.Listener, all *sync.WaitGroup) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		limit := p.limit()
		all.Go(func() { p.serve(client.(*net.TCPConn), limit) })
	}
}

// serve moves bytes both ways until one side ends the connection or the limit is reached.
func (p *resetter) serve(client *net.TCPConn, limit int64) {
	defer client.Close()
	conn, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	p.keep(client, server)

	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(client, server)
		client.Close()
	})
	n, err := io.CopyN(server, client, limit)
	p.forwarded.Add(n)
	if err == nil {
		p.resets.Add(1)
		_, _ = client.SetLinger(0), server.SetLinger(0)
		client.Close()
	}
	server.Close()
	answers.Wait()
}

func (p *resetter) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conns...)
}

func (p *resetter) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}
