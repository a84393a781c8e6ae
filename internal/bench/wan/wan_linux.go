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
	down, up       *pipe // to the client, to the server
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
	if n.server, err = newSide(ServerAddress, ClientAddress, l.Congestion); err != nil {
		return n, fmt.Errorf("the server's side: %w", err)
	}
	if n.client, err = newSide(ClientAddress, ServerAddress, l.Congestion); err != nil {
		return n, fmt.Errorf("the client's side: %w", err)
	}
	n.down, n.up = newPipe(l), newPipe(l)
	for _, way := range []struct {
		p        *pipe
		from, to *os.File
	}{{n.down, n.server.tun, n.client.tun}, {n.up, n.client.tun, n.server.tun}} {
		n.moving.Go(func() { way.p.read(way.from) })
		n.moving.Go(func() { way.p.deliver(way.to) })
	}
	return n, nil
}

// StartServer starts a program on the server's side.
func (n *Network) StartServer(c *exec.Cmd) error { return n.server.start(c) }

// StartClient starts a program on the client's side.
func (n *Network) StartClient(c *exec.Cmd) error { return n.client.start(c) }

// Down takes the network away, and tells what was lost from the server to the client.
func (n *Network) Down() (d Drops) {
	for _, s := range []*side{n.server, n.client} {
		if s != nil {
			s.close()
		}
	}
	n.moving.Wait()
	if n.down != nil {
		d = n.down.drops
	}
	return d
}
