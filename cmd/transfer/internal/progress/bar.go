package progress

import (
	"cmp"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	refresh = 150 * time.Millisecond

	// maxBlobLines is how many of the largest blobs have a line of their own.
	maxBlobLines = 3

	// noteTime is how long a note stays when nothing moves.
	noteTime = 30 * time.Second
)

// bar draws on a terminal: a line for all, and below it the largest blobs that are on their way.
type bar struct {
	out       io.Writer
	container *mpb.Progress // nil when there is nothing to move
	drawn     *mpb.Bar

	mu    sync.Mutex // guards the fields that follow
	line  state
	noted time.Time
	ended bool
}

func (b *bar) update(s *state) {
	b.keep(s)
	if b.container == nil && s.done < s.total {
		b.begin()
	}
}

func (b *bar) note(s *state, _ string) {
	b.keep(s)
	b.mu.Lock()
	b.noted = time.Now()
	b.mu.Unlock()
}

// keep copies what is drawn: the bar is drawn on a goroutine of its own.
func (b *bar) keep(s *state) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line = *s
	b.line.samples = slices.Clone(s.samples)
}

func (b *bar) begin() {
	out := cupwriter.New(fromTheLeft{b.out}, false)
	if f, ok := b.out.(*os.File); ok {
		out.SetTermFd(int(f.Fd()))
	}
	b.container = mpb.New(
		mpb.WithConsoleWriter(terminal{out}), mpb.WithRefreshRate(refresh), mpb.WithAutoRefresh(),
	)
	var err error
	below := make([]mpb.BarFiller, maxBlobLines+1)
	for i := range below {
		below[i] = mpb.BarFillerFunc(func(w io.Writer, stat decor.Statistics) error {
			return b.extend(w, stat, i)
		})
	}
	b.drawn, err = b.container.Add(
		0, mpb.BarFillerFunc(b.fill), mpb.BarBtmExtender(below...), mpb.BarFillerTrim(),
	)
	if err != nil { // only after Wait
		b.container = nil
	}
}

// fromTheLeft begins each drawing in the first column: the terminal may have echoed a ^C there, and from
// behind that the bar would be one line longer than it is taken for.
type fromTheLeft struct{ io.Writer }

func (w fromTheLeft) Write(p []byte) (int, error) {
	if _, err := w.Writer.Write(append([]byte{'\r'}, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// terminal is where a bar is drawn.
type terminal struct{ *cupwriter.Writer }

// GetTermSize returns the size of the terminal. One that does not know its own, as that of script(1) or of a
// container, has the usual one: the bar would be drawn into nothing.
func (t terminal) GetTermSize() (width, height int, err error) {
	width, height, err = t.Writer.GetTermSize()
	return cmp.Or(width, 80), cmp.Or(height, 24), err
}

func (b *bar) fill(w io.Writer, stat decor.Statistics) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := io.WriteString(w, barLine(&b.line, stat.AvailableWidth))
	return err
}

// extend draws one of the lines below the bar: a blob or, behind these, the note. All go when the bar ends.
func (b *bar) extend(w io.Writer, stat decor.Statistics, i int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return nil
	}
	line := ""
	if blobs := b.largest(); i < len(blobs) {
		line = blobLine(blobs[i], stat.AvailableWidth)
	} else if i == len(blobs) && b.line.retry != "" && time.Since(b.noted) < noteTime {
		line = fit("  "+b.line.retry, stat.AvailableWidth)
	}
	if line == "" {
		return nil
	}
	_, err := io.WriteString(w, line+"\n")
	return err
}

func (b *bar) largest() []Blob {
	if b.line.blobs == nil {
		return nil
	}
	blobs := b.line.blobs()
	slices.SortStableFunc(blobs, func(x, y Blob) int { return cmp.Compare(y.Total, x.Total) })
	return blobs[:min(len(blobs), maxBlobLines)]
}

func (b *bar) close(s *state) {
	b.keep(s)
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
}

// wait draws the last line and ends the drawing. Nothing is left of a bar that has not got to its end: what
// follows it says why.
func (b *bar) wait() {
	if b.container == nil {
		return
	}
	b.mu.Lock()
	whole := b.line.done >= b.line.total
	b.mu.Unlock()
	if whole {
		b.drawn.EnableTriggerComplete()
		b.drawn.SetTotal(-1, true)
	} else {
		b.drawn.Abort(true)
	}
	b.container.Wait()
}
