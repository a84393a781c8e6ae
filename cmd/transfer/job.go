package main

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/progress"
	"github.com/modeltransfer/transfer/model/ref"
	"golang.org/x/term"
)

// hashDelay is how long hashing may take before it is told of.
const hashDelay = 2 * time.Second

// reference reads a reference as the shared flags want it.
func (a *app) reference(text string) (ref.Reference, error) {
	r, err := ref.Parse(text)
	if err != nil {
		return r, malformed(err)
	}
	return a.withScheme(r, text), nil
}

// malformed is a reference that cannot be read, with what to do about it.
func malformed(err error) error {
	if errors.Is(err, ref.ErrCredentials) {
		return usagef("%v; use transfer login", err)
	}
	return usagef("%v", err)
}

// newMeter shows a bar on a terminal, lines elsewhere, events with --json, and nothing with
// --quiet. The log of --verbose would tear a bar apart, so it goes with lines.
func (a *app) newMeter(label string, blobs func() []progress.Blob) *progress.Meter {
	o := progress.Options{Label: label, Out: a.stderr, Blobs: blobs, UntilMoved: label == "push"}
	if label == "hash" {
		o.Delay = hashDelay
	}
	switch {
	case a.quiet:
		return progress.NewSilent()
	case a.json:
		o.Event = func(completed, total int64) {
			a.event("progress", field{"phase", label}, field{"completed", completed}, field{"total", total})
		}
		return progress.NewEvents(o)
	case !a.verbose && isTerminal(a.stderr) && a.getenv("TERM") != "dumb":
		return progress.NewBar(o)
	default:
		return progress.NewLines(o)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// closeMeter ends a display and returns what happened.
func closeMeter(m *progress.Meter, blobs int) outcome {
	r := m.Close()
	return outcome{blobs: blobs, total: r.Total, there: r.There, moved: r.Moved, took: r.Took}
}
