//go:build !race

// What follows computes for long in one goroutine: the race detector would only make it slower.

package pace

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	segment       = 1460.0       // bytes of a full packet
	initialWindow = 10 * segment // RFC 6928
	leastTimeout  = 200 * time.Millisecond
)

// congestion is how a sender answers to loss.
type congestion int

const (
	reno congestion = iota
	cubic
	bbr
)

// link is a model of what lies between the blobs and the directory. Bytes flow as a fluid in steps of time,
// but each connection has a window that opens and that losses close.
type link struct {
	name       string
	rtt        time.Duration // without queueing
	rate       float64       // bytes per second of the bottleneck
	queue      float64       // bytes that wait in front of the bottleneck before it drops some
	loss       float64       // share of packets lost at random
	congestion congestion
	think      time.Duration // how long the server takes to answer a request
	handshakes int           // round trips before the first request of a connection
	perConn    float64       // most bytes per second of a connection; 0 is no limit
	server     float64       // bytes per second of the server; 0 is no limit
	drag       float64       // how much slower all bodies are for each one above five
	collapse   int           // above so many, the server slows down with the square of the excess; 0 is never
	noise      float64       // how much the rate wavers: the CPU, or other traffic
}

// step is how finely time is cut.
func (l *link) step() time.Duration {
	return min(max(l.rtt/4, 2*time.Millisecond), 10*time.Millisecond)
}

// conn is a connection from the server. It sends what its window allows.
type conn struct {
	window, threshold float64 // bytes; slow start ends at the threshold
	epochStart        time.Duration
	maxWindow         float64 // cubic: before the last loss
	queued            float64 // bytes in the bottleneck's queue
	held              float64 // bytes that came, but after one that was lost
	recovering        time.Duration
	silent            time.Duration // until when a timeout lets nothing be sent
	idleSince         time.Duration
	sent              float64 // bytes in this step
	wants             float64 // bytes that the client still asks for
	bbr               model   // of the path, where the sender has one
}

// network moves the bytes of all connections of a link.
type network struct {
	*link
	random *rand.Rand
	now    time.Duration
	dt     time.Duration // of a step
	dts    float64       // the same in seconds
	round  time.Duration // of a trip there and back in this step, behind what is queued
	rounds float64       // the same in seconds
	waver  float64       // of the rate now, a slow random walk around 1
}

func newNetwork(l *link, seed uint64) *network {
	random := rand.New(rand.NewPCG(seed, 1))
	return &network{link: l, random: random, dt: l.step(), dts: l.step().Seconds(), waver: 1}
}

func (n *network) newConn() *conn {
	c := &conn{window: initialWindow, threshold: math.Inf(1)}
	if n.congestion == bbr {
		c.bbr = newModel(n.rtt, n.random.IntN(len(gains)))
	}
	return c
}

// reuse prepares an idle connection for the next body.
func (n *network) reuse(c *conn) {
	if n.now-c.idleSince > max(leastTimeout, 2*n.rtt) { // RFC 2861
		c.window = min(c.window, initialWindow)
	}
}

// capacity is how many bytes pass the bottleneck in this step.
func (n *network) capacity(active int) float64 {
	rate := n.rate / (1 + n.drag*float64(max(active-5, 0)))
	if n.noise > 0 {
		n.waver += (1-n.waver)*0.1 + n.noise*0.4*n.random.NormFloat64()
		n.waver = min(max(n.waver, 0.3), 1.5)
		rate *= n.waver
	}
	return rate * n.dts
}

// share is what the server sends at most to each of its connections.
func (n *network) share(active int) float64 {
	each := math.Inf(1)
	if n.perConn > 0 {
		each = n.perConn
	}
	if n.server > 0 {
		excess := 1.0
		if n.collapse > 0 {
			excess = max(1, float64(active)/float64(n.collapse))
		}
		each = min(each, n.server/excess/excess/float64(active))
	}
	return each
}

// advance moves time on by a step, and the bytes of the connections. What came in is taken with receive.
func (n *network) advance(sending []*conn) {
	n.now += n.dt
	var queued, arriving float64
	for _, c := range sending {
		queued += c.queued
	}
	n.round = n.rtt + time.Duration(queued/n.rate*float64(time.Second))
	n.rounds = n.round.Seconds()
	each := n.share(len(sending))
	for _, c := range sending {
		c.sent = 0
		if n.now >= c.silent {
			rate := min(c.window/n.rounds, each)
			if n.congestion == bbr {
				rate = min(c.bbr.rate(n.now, n.rtt, n.round), each)
			}
			c.sent = min(rate*n.dts, max(c.wants-c.queued-c.held, 0))
			arriving += c.sent
		}
	}
	pass := n.capacity(len(sending))
	dropped := 0.0
	if arriving > 0 {
		dropped = min(max(queued+arriving-pass-n.queue, 0)/arriving, 1)
	}
	served := 1.0
	if waiting := queued + arriving*(1-dropped); waiting > pass {
		served = pass / waiting
	}
	for _, c := range sending {
		c.queued += c.sent * (1 - dropped)
		came := c.queued * served
		c.queued -= came
		c.held += came
		if n.congestion == bbr {
			c.bbr.deliver(n, came, c.queued, c.wants-c.queued-c.held <= 0)
		}
		n.adjust(c, came, dropped)
	}
}

// adjust lets the window of a connection grow by what was acknowledged, and shrink by what was lost.
func (n *network) adjust(c *conn, acked, dropped float64) {
	if n.now < c.recovering {
		return
	}
	packets := c.sent / segment
	random := n.happens(packets * n.loss)
	congested := n.happens(packets * dropped)
	if random || congested {
		n.lose(c, congested)
		return
	}
	if n.congestion == bbr {
		return
	}
	limited := c.sent >= 0.9*c.window*n.dts/n.rounds
	switch {
	case !limited:
	case c.window < c.threshold:
		c.window += acked
		queueing := float64(n.round) > 1.25*float64(n.rtt)
		if n.congestion != reno && queueing && c.window > 16*segment { // before the queue is full
			c.threshold = c.window
			c.maxWindow, c.epochStart = c.window, n.now
		}
	case n.congestion == cubic:
		n.growCubic(c, acked)
	default:
		c.window += segment * acked / c.window
	}
}

// happens draws whether something happens at least once that happens so often on average.
func (n *network) happens(often float64) bool {
	return often > 0 && n.random.Float64() < often && n.random.Float64() < (1-math.Exp(-often))/min(often, 1)
}

// growCubic is RFC 9438.
func (n *network) growCubic(c *conn, acked float64) {
	const scale = 0.4
	most := c.maxWindow / segment
	k := math.Cbrt(most * 0.3 / scale)
	t := (n.now - c.epochStart + n.rtt).Seconds() - k
	target := (scale*t*t*t + most) * segment
	c.window += max((target-c.window)*min(acked/c.window, 1), 0.5*segment*acked/c.window)
}

// lose closes the window, and holds up what comes until what was lost is sent again.
func (n *network) lose(c *conn, congested bool) {
	c.recovering = n.now + n.round
	c.maxWindow, c.epochStart = c.window, n.now
	switch {
	case n.congestion == bbr:
		return
	case c.window < 4*segment: // too few acknowledgements follow to notice it early
		c.silent = n.now + max(leastTimeout, 2*n.round)
		c.recovering = c.silent
		c.window, c.threshold = initialWindow/10, max(c.window/2, 2*segment)
		return
	case n.congestion == reno:
		c.window /= 2
	default:
		c.window *= 0.7
	}
	c.window = max(c.window, 2*segment)
	c.threshold = c.window
}

// receive takes what came in order.
func (n *network) receive(c *conn) (bytes float64) {
	if n.now < c.recovering {
		return 0
	}
	bytes, c.held = c.held, 0
	return bytes
}
