// Package wan is a wide area network on one machine: two network namespaces, and between them a link that
// is slow, far and loses packets. A process can be started on either side.
//
// It works where the kernel cannot emulate such links itself (no netem), but needs Linux, root and
// /dev/net/tun.
package wan

import (
	"errors"
	"fmt"
	"time"
)

// ErrUnavailable is a machine on which no network can be made.
var ErrUnavailable = errors.New("no emulated network: it needs Linux, root and /dev/net/tun")

// Link is how the network behaves, each way.
type Link struct {
	RTT        time.Duration // of a packet that waits in no queue
	Rate       int64         // bits per second
	Queue      time.Duration // how long a packet waits at most for those before it; later ones are dropped
	Loss       float64       // share of packets that are lost at random
	Congestion string        // the congestion control of both ends, such as "reno"
}

// String describes the link in a few words.
func (l Link) String() string {
	return fmt.Sprintf("%v RTT, %g Mbit/s, queue %v, %g %% loss, %s",
		l.RTT, float64(l.Rate)/1e6, l.Queue, 100*l.Loss, l.Congestion)
}

// The addresses of the two sides.
const (
	ServerAddress = "10.78.0.1"
	clientAddress = "10.78.0.2"
)

const (
	mtu       = 1500 // bytes
	txQueue   = 10_000
	batchTime = 50 * time.Microsecond // packets that are due within it are sent together
)
