//go:build !race

// What follows computes for long in one goroutine: the race detector would only make it slower.

package pace

import (
	"slices"
	"time"
)

// The constants of BBR as Linux has it (version 1, tcp_bbr.c).
const (
	startupGain = 2.885 // 2/ln 2: the speed doubles each round
	fullGrowth  = 1.25  // the pipe is full after fullRounds rounds that were not faster by so much
	fullRounds  = 3
	windowGain  = 2  // how much is on its way, in what the path holds
	speedRounds = 10 // the best speed of so many rounds is taken for the bandwidth
	leastWindow = 4 * segment
)

// gains are what the bandwidth is multiplied with in turn, for a round trip each, when the pipe is full.
var gains = [...]float64{1.25, 0.75, 1, 1, 1, 1, 1, 1}

// model is what a sender with BBR knows of the path. It does not slow down for what is lost. It sends as fast
// as bytes have arrived, and a little faster now and then, so it takes many round trips to find what others
// have left.
type model struct {
	speeds   [speedRounds]float64 // bytes per second in the last rounds
	begun    time.Duration        // when the round began
	last     time.Duration        // when bytes were sent last
	arrived  float64              // bytes in this round
	rounds   int
	full     float64 // the last speed that was faster than those before by fullGrowth
	stale    int     // rounds since then
	draining bool    // what was sent too much at first
	phase    time.Duration
}

func newModel(rtt time.Duration, offset int) (m model) {
	m.speeds[0] = initialWindow / rtt.Seconds()
	m.phase = time.Duration(offset) * rtt
	return m
}

// bandwidth is what the sender believes its share to be.
func (m *model) bandwidth() float64 { return slices.Max(m.speeds[:]) }

// rate is how many bytes per second are sent, on a path where a round now takes so long.
func (m *model) rate(now, rtt, round time.Duration) float64 {
	gain, window := startupGain, startupGain
	switch {
	case m.stale < fullRounds:
	case m.draining:
		gain = 1 / startupGain
	default:
		gain, window = gains[int((now+m.phase)/rtt)%len(gains)], windowGain
	}
	speed := m.bandwidth() * min(gain, window*rtt.Seconds()/round.Seconds())
	return max(speed, leastWindow/round.Seconds())
}

// deliver notes what arrived in a step, after the bottleneck had queued as many bytes of this sender.
func (m *model) deliver(n *network, came, queued float64, limited bool) {
	if n.now-m.last > n.round {
		m.begun, m.arrived = n.now-n.dt, 0
	}
	m.last = n.now
	m.arrived += came
	if m.draining && queued < 0.1*m.bandwidth()*n.rtt.Seconds() {
		m.draining = false
	}
	if n.now-m.begun < n.round {
		return
	}
	speed := m.arrived / (n.now - m.begun).Seconds()
	m.begun, m.arrived = n.now, 0
	if limited && speed < m.bandwidth() {
		return
	}
	m.rounds++
	m.speeds[m.rounds%speedRounds] = speed
	if m.stale >= fullRounds {
		return
	}
	if m.stale++; speed > fullGrowth*m.full {
		m.full, m.stale = speed, 0
	}
	m.draining = m.stale == fullRounds
}
