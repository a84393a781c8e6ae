package transfer_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// inBubble runs a subtest with faked time.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// traceLog records what a Trace is told.
type traceLog struct {
	mu      sync.Mutex // guards the fields that follow
	order   map[string][]string
	present map[string]transfer.Where
	started map[string][]transfer.StartInfo
	moving  map[string]int64
	retried map[string][]transfer.RetryInfo
	skipped []transfer.MirrorInfo
	done    map[string]transfer.DoneInfo
	failed  map[string]error
	over    bool // the call has returned
	late    int  // calls after that
}

// note records one call. The digest is empty where it is about no blob.
func (l *traceLog) note(dg, event string, record func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		l.late++
		return
	}
	if dg != "" {
		l.order[dg] = append(l.order[dg], event)
	}
	record()
}

func newTraceLog() (*traceLog, *transfer.Trace) {
	l := &traceLog{
		order: map[string][]string{}, present: map[string]transfer.Where{}, moving: map[string]int64{},
		started: map[string][]transfer.StartInfo{}, retried: map[string][]transfer.RetryInfo{},
		done: map[string]transfer.DoneInfo{}, failed: map[string]error{},
	}
	return l, &transfer.Trace{
		Present: func(i transfer.PresentInfo) {
			l.note(i.Blob.Digest, "Present", func() { l.present[i.Blob.Digest] = i.Where })
		},
		Waiting: func(i transfer.WaitInfo) { l.note(i.Blob.Digest, "Waiting", func() {}) },
		Started: func(i transfer.StartInfo) {
			l.note(i.Blob.Digest, "Started", func() {
				l.started[i.Blob.Digest] = append(l.started[i.Blob.Digest], i)
			})
		},
		Moving: func(i transfer.MoveInfo) {
			l.note(i.Blob.Digest, "Moving", func() { l.moving[i.Blob.Digest] = i.Completed })
		},
		Retried: func(i transfer.RetryInfo) {
			l.note(i.Blob.Digest, "Retried", func() {
				l.retried[i.Blob.Digest] = append(l.retried[i.Blob.Digest], i)
			})
		},
		Skipped: func(i transfer.MirrorInfo) {
			l.note("", "Skipped", func() { l.skipped = append(l.skipped, i) })
		},
		Done: func(i transfer.DoneInfo) {
			l.note(i.Blob.Digest, "Done", func() { l.done[i.Blob.Digest] = i })
		},
		Failed: func(i transfer.FailInfo) {
			l.note(i.Blob.Digest, "Failed", func() { l.failed[i.Blob.Digest] = i.Err })
		},
	}
}

// isEnd tells the events that nothing follows.
func isEnd(event string) bool { return event == "Present" || event == "Done" || event == "Failed" }

// check checks what holds whatever happens, after a call at these blobs has returned err.
func (l *traceLog) check(t *testing.T, blobs []transfer.Blob, err error) {
	t.Helper()
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	var wrong *transfer.BlobError
	if errors.As(err, &wrong) {
		assert.Contains(t, l.failed, wrong.Digest, "the blob that ended the call: %v", err)
	}
	for _, b := range blobs {
		order := l.order[b.Digest]
		l.checkOrder(t, order, err)
		if done, ok := l.done[b.Digest]; ok {
			l.checkDone(t, done)
		}
		for _, s := range l.started[b.Digest] {
			assert.NotEmpty(t, s.Host)
			assert.True(t, s.Offset >= 0 && s.Size >= 0 && s.Offset+s.Size <= b.Size, "%+v", s)
		}
		for _, r := range l.retried[b.Digest] {
			assert.Error(t, r.Err)
			assert.GreaterOrEqual(t, r.Wait, time.Duration(0))
		}
		assert.LessOrEqual(t, l.moving[b.Digest], b.Size)
	}
}

// checkOrder checks the events of one blob.
func (l *traceLog) checkOrder(t *testing.T, order []string, err error) {
	t.Helper()
	ends := 0
	for i, event := range order {
		if !isEnd(event) {
			continue
		}
		// Begun again, because the registry lacks what it has said it has.
		again := i+1 < len(order) && order[i+1] == "Retried" && event != "Failed"
		if !again {
			ends++
			assert.Equal(t, len(order)-1, i, "%s is not the last of %v", event, order)
		}
	}
	switch {
	case err == nil:
		assert.Equal(t, 1, ends, "Present or Done, once: %v", order)
		assert.NotContains(t, order, "Failed")
	case len(order) > 0:
		assert.Equal(t, 1, ends, "Present, Done or Failed, once: %v", order)
	}
	assert.LessOrEqual(t, count(order, "Waiting"), 1)
	if slices.Contains(order, "Present") && !slices.Contains(order, "Done") && err == nil {
		assert.NotContains(t, order, "Started")
	}
}

func count(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}

// checkDone checks the figures of a blob that was moved.
func (l *traceLog) checkDone(t *testing.T, d transfer.DoneInfo) {
	t.Helper()
	started := len(l.started[d.Blob.Digest]) > 0
	assert.GreaterOrEqual(t, d.Moved+d.Reused, d.Blob.Size, "%+v", d)
	assert.LessOrEqual(t, d.Reused, d.Blob.Size, "%+v", d)
	assert.GreaterOrEqual(t, d.Duration, time.Duration(0))
	assert.Equal(t, started, d.Host != "", "%+v", d)
	if !started {
		assert.Zero(t, d.Moved)
	}
}

// tracedDownload has a download be traced, unless a test does.
func tracedDownload(opts *transfer.DownloadOptions) *traceLog { return tracedTo(&opts.Trace) }

// tracedUpload has an upload be traced, unless a test does.
func tracedUpload(opts *transfer.UploadOptions) *traceLog { return tracedTo(&opts.Trace) }

func tracedTo(trace **transfer.Trace) *traceLog {
	if *trace != nil {
		return nil
	}
	var l *traceLog
	l, *trace = newTraceLog()
	return l
}

// What is told of one blob, in the ways that there are.
func TestTraceOfADownload(t *testing.T) {
	const half, size = 20 << 20, 33 << 20
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		there, small, empty := w.local(1000), w.remote(2000), w.remote(0)
		large := w.remote(size)
		w.leavePartial(large, half)
		w.reg.Fault("GET", small.Digest, "503")
		opts := w.downloadOptions(there, small, empty, large)
		log := tracedDownload(&opts)
		require.NoError(t, w.download(opts))

		log.check(t, opts.Blobs, nil)
		host := w.host()
		assert.Equal(t, map[string]transfer.Where{there.Digest: transfer.OnDisk}, log.present)
		assert.Equal(t, []string{"Started", "Retried", "Started", "Done"}, log.order[small.Digest])
		retry := log.retried[small.Digest][0]
		assert.Equal(t, []any{small, host, 1}, []any{retry.Blob, retry.Host, retry.Attempt})
		assert.Positive(t, retry.Wait)
		var status *transfer.StatusError
		require.ErrorAs(t, retry.Err, &status)
		done := log.done[small.Digest]
		assert.Equal(t, []any{host, int64(2000), int64(0)}, []any{done.Host, done.Moved, done.Reused})
		assert.GreaterOrEqual(t, done.Duration, retry.Wait)
		assert.Equal(t, []string{"Done"}, log.order[empty.Digest], "nothing of it is asked for")
		assert.Equal(t, transfer.DoneInfo{Blob: empty}, withoutTime(log.done[empty.Digest]))
		assert.Equal(t, "Moving", log.order[large.Digest][0], "what is there is told first")
		assert.EqualValues(t, half, log.started[large.Digest][0].Offset)
		assert.EqualValues(t, size, log.moving[large.Digest])
		assert.Equal(t, transfer.DoneInfo{Blob: large, Host: host, Moved: size - half, Reused: half},
			withoutTime(log.done[large.Digest]))
	})
}

func withoutTime(d transfer.DoneInfo) transfer.DoneInfo {
	d.Duration = 0
	return d
}

// host is the registry's, as a trace is told it.
func (w *world) host() string { return "registry.test" }

func TestTraceOfAnUpload(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		there, mounted, sent, large := w.local(1000), w.local(2000), w.local(3000), w.local(40<<20)
		w.reg.Put(repository, w.data(there))
		w.reg.Put("library/other", w.data(mounted))
		mounted.From = "library/other"
		w.interrupted(large)
		w.progress = &progressLog{}
		w.reg.Fault("", sent.Digest, "503")
		opts := w.uploadOptions(there, mounted, sent, large)
		log := tracedUpload(&opts)
		require.NoError(t, w.upload(opts))

		log.check(t, opts.Blobs, nil)
		assert.Equal(t, map[string]transfer.Where{
			there.Digest: transfer.AtRegistry, mounted.Digest: transfer.Mounted,
		}, log.present)
		assert.Len(t, log.retried[sent.Digest], 1)
		assert.Equal(t, transfer.DoneInfo{Blob: sent, Host: w.host(), Moved: 6000},
			withoutTime(log.done[sent.Digest]), "what had to be sent again is counted")
		done := log.done[large.Digest]
		assert.Positive(t, done.Reused, "what the session has")
		assert.Equal(t, large.Size, done.Moved+done.Reused)
		assert.Equal(t, done.Reused, log.started[large.Digest][0].Offset)
		assert.Equal(t, large.Size, log.moving[large.Digest])
	})
}

// A blob that another call has is told to be waited for, and then to be there.
func TestTraceOfABlobThatAnotherCallFetches(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1 << 20)
		w.reg.Fault("GET", b.Digest, "slow(100K)")
		first := make(chan error, 1)
		go func() {
			opts := w.downloadOptions(b)
			opts.Progress = nil
			first <- transfer.Download(t.Context(), opts)
		}()
		time.Sleep(time.Second)
		opts := w.downloadOptions(b)
		log := tracedDownload(&opts)
		require.NoError(t, w.download(opts))
		require.NoError(t, <-first)
		log.check(t, opts.Blobs, nil)
		assert.Equal(t, []string{"Waiting", "Present"}, log.order[b.Digest])
	})
}

// A mirror that fails is told once, and the time for which it is left alone.
func TestTraceOfMirrors(t *testing.T) {
	for script, pause := range map[string]time.Duration{
		"**503": 30 * time.Second, "**429(retry-after: 100)": 100 * time.Second,
	} {
		inBubble(t, script, func(t *testing.T) {
			w, one, _, options := mirrored(t, registrytest.H1)
			one.Fault("GET", "", script)
			var blobs []transfer.Blob
			for i := range 12 {
				blobs = append(blobs, w.remote(1000+i))
			}
			w.reg.Fault("GET", "", "**delay(1s)")
			opts := options(blobs...)
			opts.Mirrors, opts.Concurrency = opts.Mirrors[:1], 1
			log := tracedDownload(&opts)
			start := time.Now()
			require.NoError(t, w.download(opts))
			log.check(t, blobs, nil)
			require.Len(t, log.skipped, 1)
			skipped := log.skipped[0]
			assert.Equal(t, "one.test", skipped.Host)
			var status *transfer.StatusError
			require.ErrorAs(t, skipped.Err, &status)
			assert.WithinRange(t, skipped.Until, start.Add(pause), start.Add(pause+10*time.Second))
			for _, b := range blobs {
				assert.Equal(t, w.host(), log.done[b.Digest].Host)
			}
		})
	}
}

// Failed is told of the blob that ended the call, with its error, and of those that it cut off.
func TestTraceOfAFailure(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for _, direction := range []string{"download", "upload"} {
			w := newWorld(t, mode, registrytest.Options{})
			log, trace := newTraceLog()
			var bad, cut transfer.Blob
			var err error
			if direction == "download" {
				bad, cut = w.remote(1000), w.remote(2000)
				w.reg.Fault("GET", cut.Digest, "delay(1h)")
				w.reg.Fault("GET", bad.Digest, "delay(1s)+404")
				opts := w.downloadOptions(bad, cut)
				opts.Trace = trace
				err = w.download(opts)
			} else {
				bad, cut = w.local(1000), w.local(2000)
				w.reg.Fault("", cut.Digest, "delay(1h)")
				w.reg.Fault("", bad.Digest, "delay(1s)+401")
				opts := w.uploadOptions(bad, cut)
				opts.Trace = trace
				err = w.upload(opts)
			}
			log.check(t, []transfer.Blob{bad, cut}, err)
			requireBlobError(t, err, bad, direction)
			requireBlobError(t, log.failed[bad.Digest], bad, direction)
			requireBlobError(t, log.failed[cut.Digest], bad, direction)
			assert.Empty(t, log.done)
		}
	})
}

// What the registry lacks though it has said that it has it is sent after all, and told so.
func TestTraceOfABlobThatWasBelieved(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(1000)
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					_ = http.NewResponseController(rw).Flush()
					return true
				}
				sent := w.reg.Has(repository, digest.Digest(b.Digest))
				lacks := strings.Contains(r.URL.Path, "/manifests/") && !sent
				if lacks {
					rw.WriteHeader(http.StatusBadRequest)
					_, _ = rw.Write([]byte(`{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`))
				}
				return lacks
			}
		})
		opts := w.uploadOptions(b)
		opts.Manifest, opts.ManifestRef = []byte(`{"schemaVersion":2}`), "latest"
		log := tracedUpload(&opts)
		require.NoError(t, w.upload(opts))
		log.check(t, opts.Blobs, nil)
		order := slices.Compact(log.order[b.Digest]) // it may be sent in two ways
		assert.Equal(t, []string{"Present", "Retried", "Started", "Done"}, order)
	})
}

// A panic of any function ends the call, is raised again in its caller when all was released, and is the last
// call of any.
func TestTracePanic(t *testing.T) {
	panics := func(name string, calls *atomic.Int32) *transfer.Trace {
		bad := func(which string) {
			calls.Add(1)
			if which == name {
				calls.Store(-1 << 20)
				panic("ours: " + name)
			}
		}
		return &transfer.Trace{
			Present: func(transfer.PresentInfo) { bad("Present") },
			Started: func(transfer.StartInfo) { bad("Started") },
			Moving:  func(transfer.MoveInfo) { bad("Moving") },
			Retried: func(transfer.RetryInfo) { bad("Retried") },
			Done:    func(transfer.DoneInfo) { bad("Done") },
			Failed:  func(transfer.FailInfo) { bad("Failed") },
		}
	}
	for _, name := range []string{"Present", "Started", "Moving", "Retried", "Done", "Failed"} {
		for _, direction := range []string{"download", "upload"} {
			inBubble(t, name+" "+direction, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				var calls atomic.Int32
				trace := panics(name, &calls)
				var call func() error
				script := "503->ok"
				if name == "Failed" {
					script = "**401"
				}
				if direction == "download" {
					opts := w.downloadOptions(w.local(10), w.remote(2<<20))
					opts.Trace = trace
					w.reg.Fault("GET", opts.Blobs[1].Digest, script)
					call = func() error { return transfer.Download(t.Context(), opts) }
				} else {
					opts := w.uploadOptions(w.local(10), w.local(2<<20))
					opts.Trace = trace
					w.reg.Put(repository, w.data(opts.Blobs[0]))
					w.reg.Fault("", opts.Blobs[1].Digest, script)
					call = func() error { return transfer.Upload(t.Context(), opts) }
				}
				require.PanicsWithValue(t, "ours: "+name, func() { _ = call() })
				assert.EqualValues(t, -1<<20, calls.Load(), "none is called after it")
			})
		}
	}
}

// A function that ends its goroutine does not make a success of a call that was not one.
func TestTraceExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		opts := w.downloadOptions(w.remote(1000))
		opts.Trace = &transfer.Trace{Started: func(transfer.StartInfo) { runtime.Goexit() }}
		require.ErrorContains(t, transfer.Download(t.Context(), opts), "panicked")
	})
}

// None is called once the call has returned, also where it was cancelled while bodies move.
func TestTraceIsNotCalledAfterTheCall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		down, up := w.remote(3<<20), w.local(9<<20)
		w.reg.Fault("GET", down.Digest, "**slow(1M)")
		w.reg.Fault("PUT", "/uploads/", "**slow(1M)")
		for _, call := range []func(context.Context, *transfer.Trace) (transfer.Blob, error){
			func(ctx context.Context, trace *transfer.Trace) (transfer.Blob, error) {
				opts := w.downloadOptions(down)
				opts.Concurrency = 1
				opts.Trace, opts.Progress = trace, nil
				return down, transfer.Download(ctx, opts)
			},
			func(ctx context.Context, trace *transfer.Trace) (transfer.Blob, error) {
				opts := w.uploadOptions(up)
				opts.Trace, opts.Progress = trace, nil
				return up, transfer.Upload(ctx, opts)
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			log, trace := newTraceLog()
			b, err := call(ctx, trace)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded, "%v", log.order)
			log.check(t, []transfer.Blob{b}, err)
			require.ErrorIs(t, log.failed[b.Digest], context.DeadlineExceeded)
			time.Sleep(time.Minute)
			assert.Zero(t, log.late)
		}
	})
}

// Files of Reuse count as what need not move.
func TestTraceOfReuseIsEmptyWhereNothingIsReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.remoteLarge()
		opts := w.downloadOptions(b)
		opts.Reuse = []string{os.DevNull}
		log := tracedDownload(&opts)
		require.NoError(t, w.download(opts))
		want := transfer.DoneInfo{Blob: b, Host: w.host(), Moved: largeSize}
		assert.Equal(t, want, withoutTime(log.done[b.Digest]))
	})
}
