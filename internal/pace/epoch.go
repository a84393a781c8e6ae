package pace

import "time"

const (
	// An epoch measures one limit. It lasts epochTime or, up to maxEpochTime, as long as a first byte
	// takes: with 50 ms for all, servers 120 ms away that collapse cost up to 1.20 times the best fixed
	// number instead of 1.10, simulated. Within maxEpochTime it also lasts until each body may have moved
	// epochBytes, a few reads.
	epochTime    = 50 * time.Millisecond
	maxEpochTime = 8 * epochTime
	epochBytes   = 64 << 10 // 64 KiB

	// Where more than a quarter of the bodies are new ones, an epoch lasts at least epochWaits waits for a
	// first byte, which evens out bursts: without, small bodies on servers that collapse cost 1.25 times
	// the best fixed number instead of 1.10, simulated.
	epochWaits = 4

	// Where even the fastest first byte takes longer than farLatency, it takes many round trips until the
	// windows of TCP are open, and a lost packet halves one. D3 has 25 ms, W1 20 ms; a busy machine delays
	// some first bytes by as much, but not the fastest.
	farLatency = 10 * time.Millisecond

	// On the same machine or network, a connection is made within nearDial. There a registry that is busy
	// may need nearly busyLatency for each first byte: Debian's took 7.5 to 9 ms for the fastest of four in
	// three runs on two cores, which it shared, and more than farLatency in others.
	nearDial    = time.Millisecond
	busyLatency = 20 * time.Millisecond
)

// Near tells whether a server is near: whether its answer came so soon, over a connection that it took so
// long to make, that round trips do not rule. Zero means that this time is not known.
func Near(latency, dialed time.Duration) bool {
	return latency <= farLatency || dialed > 0 && dialed < nearDial && latency < busyLatency
}

// epoch is what was seen of the current limit.
type epoch struct {
	awaited  int       // bodies of this generation that must have a first byte before the first epoch starts
	start    time.Time // zero before it starts
	bytes    int64
	admitted int // bodies

	first   time.Time // when the first epoch of the generation started
	last    float64   // bytes per second of the epoch before, if any; it may be of the generation before
	fastest float64   // bytes per second of the fastest epoch of the generation
}

// begin starts an epoch.
func (e *epoch) begin(now time.Time) {
	e.start, e.bytes, e.admitted = now, 0, 0
	if e.first.IsZero() {
		e.first = now
	}
}

// tells reports whether the epoch has lasted for long enough.
func (e *epoch) tells(elapsed time.Duration, limit int, w *waits) bool {
	short := elapsed < max(epochTime, min(w.nearest, maxEpochTime))
	thin := e.bytes < int64(limit)*epochBytes && elapsed < maxEpochTime
	bursty := e.admitted > limit/4 && elapsed < epochWaits*w.average
	return !short && !thin && !bursty
}

// waits is how long bodies took from being asked for to their first byte: on average, and the fastest,
// because servers and machines that are busy delay the others.
type waits struct {
	average, nearest time.Duration
	near             bool // one of them was that of a server that is near
}

func (w *waits) add(latency time.Duration) {
	if w.average == 0 {
		w.average, w.nearest = latency, latency
	}
	w.nearest = min(w.nearest, latency)
	w.average += (latency - w.average) / 8
}

// far reports whether round trips rule how fast a body moves.
func (w *waits) far() bool { return w.nearest > farLatency && !w.near }

// ruin is the share of the speed below which bodies that are too many are called back.
func (w *waits) ruin() float64 {
	if w.far() {
		return harm
	}
	return nearHarm
}
