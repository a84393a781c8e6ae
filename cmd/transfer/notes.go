package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/progress"
)

// notes tell what the library warns of where it is seen: below the bar while there is one.
type notes struct {
	// finder, where it is set, is told of each answer and of uploads that go on.
	finder *finder

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

// noteHandler makes notes of warnings, and writes the log that --verbose asks for.
func (a *app) noteHandler(n *notes) slog.Handler {
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
	return h.next != nil || h.notes.finder != nil || level >= slog.LevelWarn
}

// Handle passes a record on.
func (h *noteHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.notes.finder != nil {
		h.notes.finder.record(r)
	}
	if h.next != nil {
		return h.next.Handle(ctx, r)
	}
	// The end of a call is told by its error.
	if r.Level < slog.LevelWarn || ctx.Err() != nil || strings.HasSuffix(r.Message, " ended") {
		return nil
	}
	text := printable.Text(noteText(r))
	h.notes.mu.Lock()
	defer h.notes.mu.Unlock()
	switch {
	case h.app.quiet:
		if isRetry(r) && h.notes.due(time.Now()) {
			fmt.Fprintf(h.app.stderr, "%s\n", text)
		}
	case h.app.json:
		h.app.event("note", field{"note", text})
	case h.notes.meter != nil:
		h.notes.meter.Note(text)
	default:
		fmt.Fprintf(h.app.stderr, "%s\n", text)
	}
	return nil
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

// isRetry tells whether a record is about something that is tried again.
func isRetry(r slog.Record) (waits bool) {
	r.Attrs(func(a slog.Attr) bool {
		waits = waits || a.Key == "wait"
		return !waits
	})
	return waits
}

// WithAttrs keeps nothing: the library's records say all themselves.
func (h *noteHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup keeps nothing.
func (h *noteHandler) WithGroup(string) slog.Handler { return h }

// noteText writes a record as a person reads it: what, why, and how long.
func noteText(r slog.Record) string {
	text := r.Message
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
	return text + wait + cause
}
