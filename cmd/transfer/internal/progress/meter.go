// Package progress shows how a transfer goes: a bar on a terminal, lines in a file, events for a program.
package progress

import (
	"io"
	"slices"
	"sync"
	"time"
)

// rateWindow is the time over which the rate is measured: long enough to be read, short enough to
// follow a link that changes.
const rateWindow = 15 * time.Second

// sampleEvery is the least time between two samples of the rate.
const sampleEvery = 250 * time.Millisecond

// display is a way to show a meter. Calls come one at a time, with the state locked.
type display interface {
	update(s *state)
	note(s *state, text string)
	close(s *state)
}

// Options say what a meter shows.
type Options struct {
	// Label names what is done: pull, push, hash.
	Label string

	// Out gets bars and lines.
	Out io.Writer

	// Blobs returns the blobs of which a part is there, for the lines below the bar. Nil means none.
	Blobs func() []Blob

	// Delay is how long lines wait before the first: what is done sooner needs none.
	Delay time.Duration

	// UntilMoved makes lines wait until something has moved: it may turn out that all is there already.
	UntilMoved bool

	// Event gets the progress instead of Out when it is set.
	Event func(completed, total int64)
}

// Blob is one of the blobs that move.
type Blob struct {
	Name        string
	Done, Total int64
}

// Meter follows one transfer and shows it. Its methods are safe for concurrent use.
type Meter struct {
	show display

	mu sync.Mutex // guards the fields that follow
	state
}

// state is what a display shows.
type state struct {
	label       string
	start       time.Time
	began       bool
	first       int64 // what was there already
	done, total int64
	samples     []sample
	retry       string // the last note, until bytes move again
	blobs       func() []Blob
}

// sample is how much had moved at a time.
type sample struct {
	at    time.Time
	moved int64
}

// NewBar returns a meter that draws on a terminal.
func NewBar(o Options) *Meter { return newMeter(o, &bar{out: o.Out}) }

// NewLines returns a meter that prints lines.
func NewLines(o Options) *Meter {
	return newMeter(o, &lines{out: o.Out, delay: o.Delay, untilMoved: o.UntilMoved})
}

// NewEvents returns a meter that calls Event at most once a second.
func NewEvents(o Options) *Meter { return newMeter(o, &events{tell: o.Event}) }

// NewSilent returns a meter that shows nothing.
func NewSilent() *Meter { return newMeter(Options{}, silence{}) }

func newMeter(o Options, show display) *Meter {
	return &Meter{show: show, state: state{label: o.Label, start: time.Now(), blobs: o.Blobs}}
}

// Update is told how much is done. It is the Progress callback of the library.
func (m *Meter) Update(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.began {
		m.began, m.first = true, m.first+done
	}
	if done > m.done {
		m.retry = ""
	}
	m.done, m.total = done, total
	m.sample(time.Now())
	m.show.update(&m.state)
}

// There is told of bytes that turned out to be there already, before or after Update counts them as
// done. They are no part of the rate.
func (m *Meter) There(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.first += n
}

// Note shows that something is tried again.
func (m *Meter) Note(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retry = text
	m.show.note(&m.state, text)
}

// Close ends the display.
func (m *Meter) Close() {
	m.mu.Lock()
	m.show.close(&m.state)
	m.mu.Unlock()
	if b, ok := m.show.(*bar); ok {
		b.wait() // the bar takes the lock to draw its last line
	}
}

func (s *state) sample(now time.Time) {
	if n := len(s.samples); n > 0 && now.Sub(s.samples[n-1].at) < sampleEvery {
		return
	}
	s.samples = append(s.samples, sample{now, s.moved()})
	// The first sample may be older than the window, so that the window is always full.
	for len(s.samples) > 2 && now.Sub(s.samples[1].at) >= rateWindow {
		s.samples = slices.Delete(s.samples, 0, 1)
	}
}

// moved is how much of what is done was not there already.
func (s *state) moved() int64 { return max(s.done-s.first, 0) }

// rate is the bytes per second of the last time, 0 where it is not known.
func (s *state) rate() float64 {
	if len(s.samples) == 0 {
		return 0
	}
	moved, took := s.moved()-s.samples[0].moved, time.Since(s.samples[0].at)
	if moved <= 0 || took < sampleEvery {
		return 0
	}
	return float64(moved) / took.Seconds()
}

// left is the time that is left at the rate, and whether it can be told.
func (s *state) left() (time.Duration, bool) {
	rate := s.rate()
	if rate <= 0 || s.done >= s.total {
		return 0, false
	}
	seconds := float64(s.total-s.done) / rate
	if seconds >= maxLeft.Seconds() {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// percent is rounded down: 100 means all.
func percent(done, total int64) int {
	if total <= 0 {
		return 100
	}
	return int(float64(done) / float64(total) * 100)
}

// silence shows nothing.
type silence struct{}

func (silence) update(*state)       {}
func (silence) note(*state, string) {}
func (silence) close(*state)        {}

// events tells a program, at most once a second and at the end.
type events struct {
	tell func(completed, total int64)
	last time.Time
	done bool // the end was told
}

func (e *events) update(s *state) {
	now, all := time.Now(), s.done == s.total
	if now.Sub(e.last) < linePause && !all || all && e.done {
		return
	}
	e.last, e.done = now, all
	e.tell(s.done, s.total)
}
func (e *events) note(*state, string) {}
func (e *events) close(*state)        {}
