package wan

import (
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxWaiting is how many packets may be on their way: one second of 1 Gbit/s.
const maxWaiting = 1 << 17

// pipe moves packets one way.
type pipe struct {
	Link
	waiting chan packet
	buffers sync.Pool // of *[mtu]byte, those of packets that have arrived
	idleAt  time.Time // when the link will have sent all that was queued
}

// packet is one that will arrive.
type packet struct {
	due  time.Time
	data *[mtu]byte
	size int // of data
}

func newPipe(l Link) *pipe {
	return &pipe{Link: l, waiting: make(chan packet, maxWaiting),
		buffers: sync.Pool{New: func() any { return new([mtu]byte) }}}
}

// read takes packets until the device is closed.
func (p *pipe) read(from io.Reader) {
	defer close(p.waiting)
	for {
		b := p.buffers.Get().(*[mtu]byte)
		n, err := from.Read(b[:])
		if err != nil {
			return
		}
		due, arrives := p.schedule(time.Now(), n, rand.Float64())
		if !arrives {
			p.buffers.Put(b)
			continue
		}
		p.waiting <- packet{due, b, n}
	}
}

// schedule decides whether a packet arrives, and when. Chance is uniform in [0,1).
func (p *pipe) schedule(now time.Time, size int, chance float64) (due time.Time, arrives bool) {
	if chance < p.Loss {
		return due, false
	}
	if p.idleAt.Before(now) {
		p.idleAt = now
	}
	if p.idleAt.Sub(now) > p.Queue {
		return due, false
	}
	p.idleAt = p.idleAt.Add(time.Duration(float64(size*8) / float64(p.Rate) * float64(time.Second)))
	return p.idleAt.Add(p.RTT / 2), true
}

// deliver writes packets when they are due, until there are no more.
func (p *pipe) deliver(to io.Writer) {
	for next := range p.waiting {
		if wait := time.Until(next.due); wait > batchTime {
			pause(wait)
		}
		_, _ = to.Write(next.data[:next.size]) // the device may be down already
		p.buffers.Put(next.data)
	}
}

// pause sleeps more exactly than time.Sleep, which wakes up to a millisecond late.
func pause(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // woken early by a signal, the packet is early too
}
