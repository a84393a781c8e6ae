package progress

import (
	"fmt"
	"io"
	"time"
)

// A line comes when a tenth has moved, at most once a second, and after lineSilence in any case
// where anything moves.
const (
	linePause   = time.Second
	lineSilence = 30 * time.Second
)

// lines prints progress where there is no terminal.
type lines struct {
	out         io.Writer
	delay       time.Duration // before the first line
	untilMoved  bool          // before the first line too
	printed     time.Time
	printedDone int64
	pending     bool
	noted       time.Time
}

func (l *lines) update(s *state) {
	if l.printed.IsZero() {
		// Where nothing has to move, the result says so.
		begins := s.done < s.total && !l.untilMoved || l.untilMoved && s.moved() > 0
		if begins && time.Since(s.start) >= l.delay {
			l.print(s)
		}
		return
	}
	since, moved := time.Since(l.printed), s.done-l.printedDone
	if moved == 0 {
		return
	}
	l.pending = true
	if s.done == s.total || since >= lineSilence || since >= linePause && moved*10 >= s.total {
		l.print(s)
	}
}

// note prints one note a second: when a link is cut, all blobs are tried again at once.
func (l *lines) note(s *state, text string) {
	if !l.noted.IsZero() && time.Since(l.noted) < linePause {
		return
	}
	l.noted = time.Now()
	fmt.Fprintf(l.out, "%s: %s\n", s.label, text)
}

// close prints how far it got, if no line has said so yet.
func (l *lines) close(s *state) {
	if l.pending {
		l.print(s)
	}
}

func (l *lines) print(s *state) {
	line := fmt.Sprintf(
		"%s %3d %%  %s of %s", s.label, percent(s.done, s.total), bytesText(s.done), bytesText(s.total),
	)
	if l.printed.IsZero() && s.first > 0 {
		line += fmt.Sprintf(" (%s there already)", bytesText(s.first))
	}
	l.pending, l.printed, l.printedDone = false, time.Now(), s.done
	if rate := s.rate(); rate > 0 {
		line += "  " + bytesText(int64(rate)) + "/s"
	}
	if left, ok := s.left(); ok {
		line += "  " + leftText(left) + " left"
	}
	fmt.Fprintln(l.out, line)
}
