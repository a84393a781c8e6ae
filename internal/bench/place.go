package main

import (
	"github.com/modeltransfer/transfer/internal/bench/wan"
)

// place is where a run happens: a registry, and who starts the contender.
type place struct {
	remote   *remote
	launcher launcher
	network  *wan.Network // nil on this machine
}

// place returns this machine or, where there is a link, a new network with a registry on the far side. All
// is new for each run, because a kernel remembers what connections to a host were like.
func (b *bench) place(link *wan.Link) (p place, err error) {
	p = place{remote: b.remote, launcher: b.launcher}
	if link == nil {
		return p, nil
	}
	if p.network, err = wan.Up(*link); err != nil {
		return p, err
	}
	p.launcher.start = p.network.StartClient
	p.remote, err = startRegistry(p.network.StartServer, b.shelf.dir, wan.ServerAddress)
	if err != nil {
		p.network.Down()
		return p, err
	}
	return p, nil
}

// close takes down what was made for the run.
func (p place) close() error {
	if p.network == nil {
		return nil
	}
	err := p.remote.stop()
	p.network.Down()
	return err
}
