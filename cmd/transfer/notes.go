package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/progress"
)

// notes tell what is tried again where it is seen: below the bar while there is one.
type notes struct {
	mu    sync.Mutex // guards the fields that follow
	meter *progress.Meter

	passed time.Time // when --quiet let the last one pass
}

// show sends notes to a meter, or with nil to stderr.
func (n *notes) show(m *progress.Meter) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.meter = m
}

// trace returns what tells the follower of a transfer, and makes notes of what goes wrong meanwhile. The log
// of --verbose has that anyway.
func (n *notes) trace(a *app, f *follower) *transfer.Trace {
	t := f.trace()
	if a.verbose {
		return t
	}
	t.Retried = func(i transfer.RetryInfo) { n.tell(a, retryNote(i.Wait, i.Err), i.Wait > 0) }
	t.Skipped = func(i transfer.MirrorInfo) {
		wait := time.Until(i.Until).Round(time.Second)
		n.tell(a, fmt.Sprintf("mirror %s is left alone for %v: %v", i.Host, wait, i.Err), false)
	}
	return t
}

// retryNote says what is tried again, and when.
func retryNote(wait time.Duration, err error) string {
	if wait <= 0 {
		return fmt.Sprintf("trying again: %v", err)
	}
	return fmt.Sprintf("trying again in %.1f s: %v", wait.Seconds(), err)
}

// tell tells one note. Of those that say what is waited for, --quiet lets some pass.
func (n *notes) tell(a *app, text string, waits bool) {
	text = printable.Text(text)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case a.quiet:
		if waits && n.due(time.Now()) {
			fmt.Fprintf(a.stderr, "%s\n", text)
		}
	case a.json:
		a.event("note", field{"note", text})
	case n.meter != nil:
		n.meter.Note(text)
	default:
		fmt.Fprintf(a.stderr, "%s\n", text)
	}
}

// quietEvery is how often --quiet lets a note pass: who waits for minutes wants to know what for.
const quietEvery = time.Minute

// due reports whether --quiet lets a note pass: the first, and then one each quietEvery.
func (n *notes) due(at time.Time) bool {
	if !n.passed.IsZero() && at.Sub(n.passed) < quietEvery {
		return false
	}
	n.passed = at
	return true
}

// newNoteHandler returns the log of package registry, whose requests no Trace tells of: it makes notes of
// warnings, as they are, and writes what --verbose asks for.
func newNoteHandler(a *app, n *notes) slog.Handler {
	h := &noteHandler{app: a, notes: n}
	if log := a.logger(); log != nil {
		h.next = log.Handler()
	}
	return h
}

type noteHandler struct {
	app   *app
	notes *notes
	next  slog.Handler // nil without --verbose
}

var _ slog.Handler = (*noteHandler)(nil)

// Enabled reports whether a record is wanted. Debug records cost the library time.
func (h *noteHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.next != nil || level >= slog.LevelWarn
}

// Handle passes a record on.
func (h *noteHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.next != nil {
		return h.next.Handle(ctx, r)
	}
	if r.Level >= slog.LevelWarn && ctx.Err() == nil {
		text, waits := recordText(r)
		h.notes.tell(h.app, text, waits)
	}
	return nil
}

// WithAttrs returns the handler of a transfer, of which a Trace tells: it makes no notes.
func (h *noteHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if h.next == nil {
		return slog.DiscardHandler
	}
	return h.next
}

// WithGroup keeps nothing.
func (h *noteHandler) WithGroup(string) slog.Handler { return h }

// recordText writes a record as a person reads it: what, how long, and why. It tells whether something waits.
func recordText(r slog.Record) (text string, waits bool) {
	var cause, wait string
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "error":
			cause = ": " + a.Value.String()
		case "wait":
			wait = fmt.Sprintf(" in %.1f s", a.Value.Duration().Seconds())
		}
		return true
	})
	return r.Message + wait + cause, wait != ""
}
