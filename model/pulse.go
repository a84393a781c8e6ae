package model

import (
	"cmp"
	"sync/atomic"

	"github.com/modeltransfer/transfer/model/internal/unpack"
)

// pulse is whether a call gets on, for those who wait for it: its bytes come, or it does something else.
type pulse struct {
	fetching, moved atomic.Bool
}

// getsOn tells whether the call has got on since it was asked last.
func (p *pulse) getsOn() bool { return p.moved.Swap(false) || !p.fetching.Load() }

// turn says how a call waits for a directory that another one has: where that brings nothing, for no longer
// than it would wait for a registry. Then it calls gaveUp.
func (p *pulse) turn(o *Options, dir string, gaveUp func()) unpack.Turn {
	stall := cmp.Or(o.StallTimeout, defaultPatience)
	return unpack.Turn{
		Waiting: o.waiting(dir), GetsOn: p.getsOn, GaveUp: gaveUp,
		Patience: min(stall, cmp.Or(o.RetryTimeout, stall)),
	}
}
