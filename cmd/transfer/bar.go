package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	barWidth    = 30
	barThrottle = 100 * time.Millisecond

	// A plain line comes when a tenth has moved, at most once a second, and
	// after lineSilence in any case where anything moves.
	linePause   = time.Second
	lineSilence = 30 * time.Second

	// maxLeft is the longest time left that is told: what the first few bytes promise is no
	// forecast, and may be more than a time.Duration holds.
	maxLeft = 100 * time.Hour
)

// meter follows one transfer and shows it.
type meter struct {
	show        display
	start       time.Time
	first, done int64
	total       int64
	began       bool
}

// display is a way to show progress. Calls come one at a time.
type display interface {
	update(done, total int64)
	close()
}

// newMeter shows a bar on a terminal, lines elsewhere, and nothing with --quiet.
// The log of --verbose would tear a bar apart, so it goes with lines.
func (j *job) newMeter(label string) *meter {
	m := &meter{start: time.Now()}
	switch {
	case j.quiet:
		m.show = silence{}
	case !j.verbose && isTerminal(j.stderr) && j.getenv("TERM") != "dumb":
		m.show = &bar{out: j.stderr, label: label}
	default:
		m.show = &lines{out: j.stderr, label: label}
	}
	return m
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// update is the Progress callback of the library.
func (m *meter) update(done, total int64) {
	if !m.began {
		m.began, m.first = true, done
	}
	m.done, m.total = done, total
	m.show.update(done, total)
}

// close ends the display and returns what happened.
func (m *meter) close(blobs int) outcome {
	m.show.close()
	return outcome{blobs: blobs, total: m.total, moved: max(m.done-m.first, 0), took: time.Since(m.start)}
}

// silence shows nothing.
type silence struct{}

func (silence) update(int64, int64) {}
func (silence) close()              {}

// bar draws on a terminal. It measures what is left to move, so that what was
// there before does not count as speed.
type bar struct {
	out   io.Writer
	label string
	first int64
	began bool
	drawn *progressbar.ProgressBar // nil when there is nothing to move
}

func (b *bar) update(done, total int64) {
	if !b.began {
		b.began, b.first = true, done
		b.begin(total - done)
	}
	if b.drawn != nil {
		_ = b.drawn.Set64(max(done-b.first, 0)) // only cosmetics can fail
	}
}

func (b *bar) begin(left int64) {
	if left <= 0 {
		return
	}
	label := b.label
	if b.first > 0 {
		label += fmt.Sprintf(" (%s there already)", formatBytes(float64(b.first)))
	}
	b.drawn = progressbar.NewOptions64(left,
		progressbar.OptionSetWriter(b.out), progressbar.OptionSetDescription(label),
		progressbar.OptionSetWidth(barWidth), progressbar.OptionThrottle(barThrottle),
		progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}),
	)
}

func (b *bar) close() {
	if b.drawn != nil {
		fmt.Fprintln(b.out)
	}
}

// lines prints progress where there is no terminal.
type lines struct {
	out         io.Writer
	label       string
	start       time.Time
	first       int64
	printed     time.Time
	printedDone int64
	done, total int64
	pending     bool
}

func (l *lines) update(done, total int64) {
	l.done, l.total = done, total
	if l.start.IsZero() {
		l.start, l.first = time.Now(), done
		l.print()
		return
	}
	l.pending = true
	since, moved := time.Since(l.printed), done-l.printedDone
	if done == total || since >= lineSilence || since >= linePause && moved*10 >= total {
		l.print()
	}
}

// close prints how far it got, if no line has said so yet.
func (l *lines) close() {
	if l.pending {
		l.print()
	}
}

func (l *lines) print() {
	l.pending, l.printed, l.printedDone = false, time.Now(), l.done
	fmt.Fprintf(l.out, "%s %3d %%  %s of %s%s\n", l.label, percent(l.done, l.total),
		formatBytes(float64(l.done)), formatBytes(float64(l.total)), l.speed())
}

// speed is the rate since the first line and the time that is left at it.
func (l *lines) speed() string {
	moved, elapsed := l.done-l.first, time.Since(l.start)
	if moved <= 0 || elapsed <= 0 {
		return ""
	}
	rate := float64(moved) / elapsed.Seconds()
	s := fmt.Sprintf("  %s/s", formatBytes(rate))
	if left := float64(l.total-l.done) / rate; left > 0 && left < maxLeft.Seconds() {
		s += fmt.Sprintf("  %s left", time.Duration(math.Ceil(left))*time.Second)
	}
	return s
}

func percent(done, total int64) int {
	if total <= 0 {
		return 100
	}
	return int(float64(done) / float64(total) * 100)
}
