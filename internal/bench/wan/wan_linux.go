package wan

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
)

// Network is a link and the two sides of it. The processes on it must have ended before it is taken down.
type Network struct {
	server, client *side
	moving         sync.WaitGroup
}

// Up makes a network. The caller must take it down.
func Up(l Link) (n *Network, err error) {
	n = &Network{}
	defer func() {
		if err != nil {
			n.Down()
			n, err = nil, errors.Join(ErrUnavailable, err)
		}
	}()
	if n.server, err = newSide(ServerAddress, clientAddress, l.Congestion); err != nil {
		return n, fmt.Errorf("the server's side: %w", err)
	}
	if n.client, err = newSide(clientAddress, ServerAddress, l.Congestion); err != nil {
		return n, fmt.Errorf("the client's side: %w", err)
	}
	n.connect(l, n.server.tun, n.client.tun)
	n.connect(l, n.client.tun, n.server.tun)
	return n, nil
}

// connect moves packets one way.
func (n *Network) connect(l Link, from, to *os.File) {
	p := newPipe(l)
	n.moving.Go(func() { p.read(from) })
	n.moving.Go(func() { p.deliver(to) })
}

// StartServer starts a program on the server's side.
func (n *Network) StartServer(c *exec.Cmd) error { return n.server.start(c) }

// StartClient starts a program on the client's side.
func (n *Network) StartClient(c *exec.Cmd) error { return n.client.start(c) }

// Down takes the network away.
func (n *Network) Down() {
	for _, s := range []*side{n.server, n.client} {
		if s != nil {
			s.close()
		}
	}
	n.moving.Wait()
}
