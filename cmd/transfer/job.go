package main

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/progress"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/ref"
	"golang.org/x/term"
)

// hashDelay is how long hashing may take before it is told of.
const hashDelay = 2 * time.Second

// job is a call of package model as a person sees it.
type job struct {
	*app
	label  string // of what moves bytes
	notes  *notes
	follow *follower
	meter  *progress.Meter // nil while nothing is shown
}

func newJob(a *app, label string) *job {
	return &job{app: a, label: label, notes: new(notes), follow: newFollower()}
}

// options say how the registry of a reference is reached, and that this job is told.
func (j *job) options(r ref.Reference) (model.Options, error) {
	j.asking(r)
	client, err := j.client()
	if err != nil {
		return model.Options{}, err
	}
	o := j.told()
	o.Client, o.Credentials = client, j.credentials
	o.Logger = slog.New(newNoteHandler(j.app, j.notes))
	o.StallTimeout, o.RetryTimeout = j.stallTimeout, j.retryTimeout
	o.Concurrency, o.BodyConcurrency = j.concurrency, j.bodyConcurrency
	o.MaxBytesPerSecond = int64(j.limitRate)
	return o, nil
}

// told returns options with which a call tells this job how it gets on.
func (j *job) told() model.Options {
	return model.Options{
		Progress: func(completed, total int64) { j.meter.Update(completed, total) },
		Trace:    j.notes.trace(j.app, j.follow), Begin: j.begin, Hashing: j.hashing, Waiting: j.waiting,
	}
}

// hashing shows how far files are hashed.
func (j *job) hashing(completed, total int64) {
	if j.meter == nil {
		j.meter = newMeter(j.app, "hash", nil)
	}
	j.meter.Update(completed, total)
}

// begin shows from now on what moves.
func (j *job) begin(plan model.Result) {
	j.close()
	j.follow.named(plan.Files)
	j.meter = newMeter(j.app, j.label, j.follow.moving)
	if j.label == "push" {
		j.follow.there = j.meter.There
	}
	j.notes.show(j.meter)
}

// close ends what is shown.
func (j *job) close() {
	if j.meter != nil {
		j.notes.show(nil)
		j.meter.Close()
		j.meter = nil
	}
}

// waiting says that another command has a directory.
func (a *app) waiting(dir string) { a.note("waiting for another command that writes to %s", dir) }

// newMeter shows a bar on a terminal, lines elsewhere, events with --json, and nothing with
// --quiet. The log of --verbose would tear a bar apart, so it goes with lines.
func newMeter(a *app, label string, blobs func() []progress.Blob) *progress.Meter {
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
