//go:build !linux

package wan

import "os/exec"

// Network is a link and the two sides of it.
type Network struct{}

// Up makes a network.
func Up(Link) (*Network, error) { return nil, ErrUnavailable }

// StartServer starts a program on the server's side.
func (*Network) StartServer(*exec.Cmd) error { return ErrUnavailable }

// StartClient starts a program on the client's side.
func (*Network) StartClient(*exec.Cmd) error { return ErrUnavailable }

// Down takes the network away.
func (*Network) Down() {}
