package statemachine

import (
	"slices"
	"strings"
	"sync"

	"github.com/modeltransfer/transfer"
)

// traced is what the Trace of a call was told.
type traced struct {
	mu    sync.Mutex // guards the fields that follow
	over  bool       // the call has returned
	late  bool       // something was told after that
	blobs map[string]*story
}

// story is what was told of a blob.
type story struct {
	events    []string
	completed int64 // the most that Moving told
	done      []transfer.DoneInfo
}

// note records one event of a blob.
func (t *traced) note(b transfer.Blob, event string, more func(*story)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late = t.late || t.over
	if b.Digest == "" {
		return // of the manifest
	}
	if t.blobs == nil {
		t.blobs = map[string]*story{}
	}
	s := t.blobs[b.Digest]
	if s == nil {
		s = &story{}
		t.blobs[b.Digest] = s
	}
	s.events = append(s.events, event)
	if more != nil {
		more(s)
	}
}

func (t *traced) trace() *transfer.Trace {
	return &transfer.Trace{
		Present: func(i transfer.PresentInfo) { t.note(i.Blob, "present", nil) },
		Waiting: func(i transfer.WaitInfo) { t.note(i.Blob, "waiting", nil) },
		Started: func(i transfer.StartInfo) { t.note(i.Blob, "started", nil) },
		Retried: func(i transfer.RetryInfo) { t.note(i.Blob, "retried", nil) },
		Reused:  func(i transfer.ReuseInfo) { t.note(i.Blob, "reused", nil) },
		Failed:  func(i transfer.FailInfo) { t.note(i.Blob, "failed", nil) },
		Moving: func(i transfer.MoveInfo) {
			t.note(i.Blob, "moving", func(s *story) { s.completed = max(s.completed, i.Completed) })
		},
		Done: func(i transfer.DoneInfo) {
			t.note(i.Blob, "done", func(s *story) { s.done = append(s.done, i) })
		},
	}
}

func (t *traced) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

// moved returns how many bytes the blobs say have moved that are in place.
func (t *traced) moved() (n int64) {
	for _, s := range t.blobs {
		for _, d := range s.done {
			n += d.Moved
		}
	}
	return n
}

// isEnd tells the events that are the last of a blob.
func isEnd(event string) bool { return event == "present" || event == "done" || event == "failed" }

// checkTrace checks what the Trace of a call was told.
func (m *machine) checkTrace(c call, r *result) {
	r.traced.mu.Lock()
	defer r.traced.mu.Unlock()
	m.holds(!r.traced.late, "Trace was called after the return")
	for _, i := range r.blobs {
		s := r.traced.blobs[m.blobs[i].Digest]
		switch {
		case s != nil:
			m.checkStory(c, s, m.blobs[i], r.err)
		case r.err == nil:
			m.holds(false, "nothing was told of %s, which is in place", m.blobs[i].Digest)
		}
	}
}

func (m *machine) checkStory(c call, s *story, b transfer.Blob, err error) {
	told := strings.Join(s.events, " ")
	ends := 0
	for i, event := range s.events {
		// Begun again, because the registry lacks what it has said it has.
		again := i+1 < len(s.events) && s.events[i+1] == "retried" && event != "failed"
		if isEnd(event) && !again {
			ends++
			m.holds(i == len(s.events)-1, "%s is not the last of: %s", event, told)
		}
	}
	last := s.events[len(s.events)-1]
	m.holds(ends == 1, "not one end: %s (%v)", told, err)
	m.holds(err != nil || last != "failed", "it failed, though the call returned nil: %s", told)
	started := slices.Contains(s.events, "started")
	found := last == "present" && !slices.Contains(s.events, "done")
	m.holds(!found || !started, "started and present: %s", told)
	m.holds(0 <= s.completed && s.completed <= b.Size, "%d bytes of %d in place", s.completed, b.Size)
	for _, d := range s.done {
		m.holds(d.Moved >= 0 && 0 <= d.Reused && d.Reused <= b.Size && d.Moved+d.Reused >= b.Size,
			"moved %d and reused %d of %d", d.Moved, d.Reused, b.Size)
		m.holds((d.Moved > 0) == (d.Host != "") && (d.Moved == 0 || started), "%+v after: %s", d, told)
		whole := c.Upload || b.Size < mebibyte || s.completed/mebibyte == b.Size/mebibyte
		m.holds(whole, "done with %d bytes of %d in place after: %s", s.completed, b.Size, told)
	}
}
