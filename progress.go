package transfer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/events"
	"github.com/modeltransfer/transfer/internal/watchdog"
)

// speedTracker knows the median of recent speeds, in bytes per second. It keeps its name: the tests of
// programs that have a copy of this package use it.
type speedTracker = watchdog.Speeds

// progressGrace is how long the end of a call waits for a callback after the context has ended.
const progressGrace = time.Second

// progressTracker adds up what all workers move and tells the callback, from one
// goroutine of its own, so that a slow callback delays only itself. It keeps its name: the
// tests of programs that have a copy of this package use it.
type progressTracker struct {
	total     int64
	callback  func(completed, total int64)
	completed atomic.Int64

	stop     func()        // called when the callback panics
	wake     chan struct{} // of capacity one: there is something to tell
	done     chan struct{} // closed when the goroutine has ended
	started  bool
	panicked any // set before done is closed

	abandoned atomic.Bool // the call has returned, and the callback is not called again
}

func newProgressTracker(total int64, callback func(completed, total int64), stop func()) *progressTracker {
	return &progressTracker{
		total: total, callback: callback, stop: stop, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// add counts n more bytes; n is negative for bytes that were thrown away.
func (p *progressTracker) add(n int64) {
	if p == nil || n == 0 {
		return
	}
	p.completed.Add(n)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// start begins to call the callback, first with what is there already.
func (p *progressTracker) start(completed int64) {
	p.add(completed)
	if p.callback != nil {
		p.started = true
		told := p.completed.Load()
		go func() {
			defer close(p.done)
			p.report(told)
		}()
	}
}

func (p *progressTracker) report(told int64) {
	returned := false
	defer func() {
		if !returned {
			p.panicked = recover()
			p.stop()
		}
	}()
	p.callback(told, p.total)
	for open := true; open; {
		_, open = <-p.wake
		if now := p.completed.Load(); now != told && !p.abandoned.Load() {
			told = now
			p.callback(told, p.total)
		}
	}
	returned = true
}

// finish returns after the last call of the callback, with what it panicked with. Nothing may be added any
// more. A callback that does not return, such as one that sends to a channel without a reader, is left to
// itself once the context has ended.
func (p *progressTracker) finish(ctx context.Context) (panicked any) {
	if !p.started {
		return nil
	}
	close(p.wake)
	select {
	case <-p.done:
		return p.panicked
	case <-ctx.Done():
	}
	grace := time.NewTimer(progressGrace)
	defer grace.Stop()
	select {
	case <-p.done:
		return p.panicked
	case <-grace.C:
		p.abandoned.Store(true)
		return nil
	}
}

// Trace is told what happens to each blob of a call, for metrics, logs and displays: a [slog.Logger] is for
// people. Any of its functions may be nil.
//
// They may be called at the same time, also for one blob. What they are told of waits for them: they must
// return soon. None is called after the call has returned. A panic in one ends the call and is raised again
// in its caller, and none is called after it.
//
// What a program can count on, of each distinct blob:
//   - In a call that succeeds it gets either Present or Done, once.
//   - In a call that fails it gets one of Present, Done and Failed, or none where it was not begun. The blob
//     whose error ended the call gets Failed, and so does each that got Waiting, Started, Moving, Reused or
//     Retried and was not finished.
//   - These three are the last that is told of it, with one exception: a blob that the registry said it has,
//     and lacks when it gets the manifest, is begun again with Retried.
//   - Before Present only Waiting and Retried are told of it. Before Done comes Started, unless there was
//     nothing left to move.
type Trace struct {
	// Present is called when a blob is found that need not move.
	Present func(PresentInfo)

	// Waiting is called, once for a blob, when another call or process has claimed it.
	Waiting func(WaitInfo)

	// Started is called before bytes of a blob are asked for or sent: with each request that does. A large
	// blob has many, several at once.
	Started func(StartInfo)

	// Moving is called for each MiB of a blob that is in place, and when bytes were thrown away. Blobs below
	// 1 MiB get no call.
	Moving func(MoveInfo)

	// Retried is called when an attempt has failed and another follows, before the wait. What another mirror
	// or the registry is asked for at once, in place of a mirror, is the same attempt.
	Retried func(RetryInfo)

	// Skipped is called when a mirror is to be left alone: it has failed, several times in a row, or has
	// asked for it with a Retry-After. It is called once for each such time.
	Skipped func(MirrorInfo)

	// Done is called when a blob was moved, verified, and is in place: with its final name, synced, or
	// confirmed by the registry.
	Done func(DoneInfo)

	// Failed is called for the blobs that are not in place, after all work at all blobs has ended.
	Failed func(FailInfo)

	// Reused is called when bytes of a blob were copied from a file of [DownloadOptions].Reuse: once for
	// each file that had some. The digest is not known yet. Where it is wrong, Retried follows, what was
	// copied counts no longer, and Reused is called again for what is copied after that.
	Reused func(ReuseInfo)
}

// Where tells where a blob was found.
type Where int

// Where blobs are found.
const (
	OnDisk     = Where(events.OnDisk)     // a download's, in DestDir, perhaps just brought by another call
	AtRegistry = Where(events.AtRegistry) // an upload's, in its repository
	Mounted    = Where(events.Mounted)    // an upload's, in another repository of the registry, and mounted
)

// String returns the name of the constant.
func (w Where) String() string {
	switch w {
	case OnDisk:
		return "OnDisk"
	case AtRegistry:
		return "AtRegistry"
	case Mounted:
		return "Mounted"
	}
	return "Nowhere"
}

// PresentInfo is what [Trace.Present] is told.
type PresentInfo struct {
	Blob  Blob // as it was listed; where that was twice, the first
	Where Where
}

// WaitInfo is what [Trace.Waiting] is told.
type WaitInfo struct {
	Blob Blob
}

// StartInfo is what [Trace.Started] is told.
type StartInfo struct {
	Blob   Blob
	Host   string // with the port, where there is one; it may redirect to another
	Offset int64  // of the first byte
	Size   int64  // how many bytes; they may be more or less in the end, when workers help each other
}

// MoveInfo is what [Trace.Moving] is told.
type MoveInfo struct {
	Blob      Blob
	Completed int64 // how many of the blob's bytes are in place, or for an upload have left
}

// ReuseInfo is what [Trace.Reused] is told.
type ReuseInfo struct {
	Blob  Blob
	Path  string // as it is in Reuse
	Bytes int64  // that were copied
}

// RetryInfo is what [Trace.Retried] is told.
type RetryInfo struct {
	Blob    Blob          // zero where it is the manifest that is pushed again
	Host    string        // that was asked last; empty where nobody was
	Attempt int           // how many have failed in a row; 0 where it is no request that has
	Wait    time.Duration // until the next
	Err     error         // of the attempt; it matches what errors of the call do
}

// MirrorInfo is what [Trace.Skipped] is told.
type MirrorInfo struct {
	Host  string    // of the mirror
	Err   error     // its last
	Until time.Time // when it is asked again
}

// DoneInfo is what [Trace.Done] is told.
type DoneInfo struct {
	Blob Blob

	// Host is where its bytes came from or went to, the last of several. It is empty where none moved.
	Host string

	// Moved are the bytes that have moved in this call, those that had to move again too.
	Moved int64

	// Reused are the bytes of the blob that did not have to move: earlier calls have moved them, or files of
	// Reuse had them. With Moved they are at least its Size.
	Reused int64

	// Duration is the time since the call began with the blob, waiting included.
	Duration time.Duration
}

// FailInfo is what [Trace.Failed] is told.
type FailInfo struct {
	Blob Blob
	Err  error // the blob's own, a [*BlobError], or where something else has ended the call, that of the call
}

// tracer tells a Trace. A nil tracer tells nobody.
type tracer struct {
	to    Trace
	guard events.Guard
	list  []blob
	blobs map[digest.Digest]*events.Blob
}

var _ events.Listener = (*tracer)(nil)

// newTracer returns what tells a trace of the blobs of a list, and has them report to it.
func newTracer(to *Trace, list []blob, op string, stop func()) *tracer {
	t := &tracer{to: *to, list: list, blobs: make(map[digest.Digest]*events.Blob, len(list))}
	t.guard.Stop = stop
	for i := range list {
		list[i].trace = events.NewBlob(t, i, list[i].size, op == "upload")
		t.blobs[list[i].digest] = list[i].trace
	}
	return t
}

// blob returns what is to be told about a blob, nil where nobody wants to know.
func (t *tracer) blob(dg digest.Digest) *events.Blob {
	if t == nil {
		return nil
	}
	return t.blobs[dg]
}

// finish tells which blobs have failed, and returns what a function has panicked with and the error of the
// call. None is called after it.
func (t *tracer) finish(err error) (panicked any, _ error) {
	if t == nil {
		return nil, err
	}
	if err != nil {
		for _, b := range t.list {
			b.trace.End(err)
		}
	}
	panicked = t.guard.End()
	if err == nil && t.guard.Broken() {
		err = errTracePanicked
	}
	return panicked, err
}

// tell calls a function, where there is one.
func tell[Info any](t *tracer, f func(Info), info Info) {
	if f != nil {
		t.guard.Call(func() { f(info) })
	}
}

// at returns a blob of the list, as it was listed first.
func (t *tracer) at(index int) Blob {
	b := t.list[index]
	return Blob{Digest: b.digest.String(), Size: b.size, From: b.from[0]}
}

// Present implements [events.Listener], as the methods do that follow.
func (t *tracer) Present(index int, where events.Place) {
	tell(t, t.to.Present, PresentInfo{t.at(index), Where(where)})
}

func (t *tracer) Waiting(index int) { tell(t, t.to.Waiting, WaitInfo{t.at(index)}) }

func (t *tracer) Started(index int, host string, offset, size int64) {
	tell(t, t.to.Started, StartInfo{t.at(index), host, offset, size})
}

func (t *tracer) Moving(index int, completed int64) {
	tell(t, t.to.Moving, MoveInfo{t.at(index), completed})
}

func (t *tracer) Reused(index int, path string, n int64) {
	tell(t, t.to.Reused, ReuseInfo{t.at(index), path, n})
}

func (t *tracer) Retried(index int, host string, attempt int, wait time.Duration, err error) {
	tell(t, t.to.Retried, RetryInfo{t.at(index), host, attempt, wait, err})
}

func (t *tracer) Done(index int, d events.Done) {
	tell(t, t.to.Done, DoneInfo{t.at(index), d.Host, d.Moved, d.Reused, d.Took})
}

func (t *tracer) Failed(index int, err error) { tell(t, t.to.Failed, FailInfo{t.at(index), err}) }

// skipped tells of a mirror that is left alone.
func (t *tracer) skipped(host string, err error, until time.Time) {
	if t != nil {
		tell(t, t.to.Skipped, MirrorInfo{host, err, until})
	}
}

// retriedManifest tells that the manifest is pushed again.
func (t *tracer) retriedManifest(host string, attempt int, wait time.Duration, err error) {
	if t != nil {
		tell(t, t.to.Retried, RetryInfo{Host: host, Attempt: attempt, Wait: wait, Err: err})
	}
}
