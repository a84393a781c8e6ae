package transfer_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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

// From what is there to all of it, one call at a time, and none after the return.
func TestDownloadProgress(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.local(500), w.remote(1000), w.remote(mebibyte), w.remoteLarge())
		w.reg.Fault("GET", "", "reset(300)->**slow(4M)")
		var inside sync.Mutex
		returned := false
		opts.Progress = func(completed, total int64) {
			if assert.True(t, inside.TryLock(), "one call at a time") {
				defer inside.Unlock()
			}
			assert.False(t, returned)
			assert.EqualValues(t, 500+1000+mebibyte+largeSize, total)
			w.progress.add(completed, total)
		}
		require.NoError(t, w.download(opts))
		inside.Lock()
		returned = true
		inside.Unlock()
		assert.EqualValues(t, 500, w.progress.first())
		assert.Zero(t, w.progress.falls)
		assert.Greater(t, len(w.progress.calls), 10)
	})
}

func TestUploadProgress(t *testing.T) {
	cases := map[string]string{"clean": "ok", "reset": "reset(9M)", "lost answer": "swallow"}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", script)
		there, b, small := w.local(5<<20), w.local(10<<20), w.local(100)
		w.reg.Put(repository, w.data(there))
		require.NoError(t, w.upload(w.uploadOptions(there, b, small, small)))
		assert.Zero(t, w.progress.falls, "it never goes backwards")
		for _, call := range w.progress.calls {
			assert.EqualValues(t, 15<<20+100, call[1], "total")
		}
	})
}

// What comes slowly is told, and stored, as it comes.
func TestDownloadProgressOfASlowBody(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("GET", "", "slow(10K)")
		require.NoError(t, w.download(w.downloadOptions(w.remote(50_000))))
		assert.Greater(t, len(w.progress.calls), 15)
	})
}

func TestI16ProgressPanics(t *testing.T) {
	cases := map[string]int{"at once": 1, "in the middle": 2}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, at int) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "**slow(1M)")
		opts := w.uploadOptions(w.local(3<<20), w.local(4<<20))
		calls := 0
		opts.Progress = func(int64, int64) {
			if calls++; calls == at {
				panic("out of paper")
			}
		}
		begun := time.Now()
		assert.PanicsWithValue(t, "out of paper", func() { _ = transfer.Upload(t.Context(), opts) })
		assert.Less(t, time.Since(begun), time.Second, "nothing more is sent")
		assert.Equal(t, at, calls, "no call after the panic")
		w.reg.Wait()
		assert.Zero(t, w.reg.Sessions())
	})
}

// I16: a panic of the callback reaches the caller, when all has been let go.
func TestI16DownloadProgressPanics(t *testing.T) {
	cases := map[string]int64{"at once": 0, "in the middle": 1, "at the end": 3 * mebibyte}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, at int64) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.remote(mebibyte), w.remote(2*mebibyte))
		w.reg.Fault("GET", "", "**slow(1M)")
		calls := 0
		opts.Progress = func(completed, total int64) {
			if calls++; completed >= at {
				panic("ours")
			}
		}
		begun := time.Now()
		assert.PanicsWithValue(t, "ours", func() { _ = transfer.Download(t.Context(), opts) })
		if at < mebibyte {
			assert.Less(t, time.Since(begun), time.Second, "nothing more is fetched")
		}
		told := calls
		w.reg.Wait()
		assert.Zero(t, w.reg.InFlight())
		assert.Equal(t, told, calls, "it is not called again")
		w.checkNames()
		opts.Progress = nil
		require.NoError(t, transfer.Download(t.Context(), opts), "nothing is locked")
	})
}

func TestI17ProgressBlocks(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(10), w.local(3<<20))
		begun := time.Now()
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		opts.Progress = func(completed, total int64) {
			time.Sleep(time.Hour)
			w.progress.add(completed, total)
		}
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
		requests := w.reg.Requests()
		last := requests[len(requests)-1]
		assert.Contains(t, last.Path, "/manifests/")
		assert.Less(t, last.At.Sub(begun), time.Minute, "requests do not wait for the callback")
	})
}

// I17: a slow callback delays nothing but itself.
func TestI17DownloadProgressBlocks(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		start := time.Now()
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions()
		for i := range 30 {
			opts.Blobs = append(opts.Blobs, w.remote(1000+i))
		}
		opts.Concurrency = 2
		opts.Progress = func(completed, total int64) {
			time.Sleep(time.Hour)
			w.progress.add(completed, total)
		}
		require.NoError(t, w.download(opts))
		requests := w.reg.Requests()
		require.Len(t, requests, 30)
		assert.Less(t, requests[29].At.Sub(start), time.Hour, "all were made while the first callback slept")
		assert.LessOrEqual(t, len(w.progress.calls), 3, "what came meanwhile is told at once")
	})
}

func TestI18ProgressCancelsAndReenters(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "slow(1M)")
		ctx, cancel := context.WithCancel(t.Context())
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Progress = func(int64, int64) { cancel() }
		require.ErrorIs(t, transfer.Upload(ctx, opts), context.Canceled)

		inner := w.uploadOptions(w.local(100))
		opts.Progress = func(completed, total int64) {
			assert.NoError(t, transfer.Upload(t.Context(), inner))
			w.progress.add(completed, total)
		}
		require.NoError(t, transfer.Upload(t.Context(), opts))
	})
}

// I18: a callback may cancel the call, and make another.
func TestI18DownloadProgressCancelsAndReenters(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		b, other := w.remote(mebibyte), w.remote(1000)
		w.reg.Fault("GET", b.Digest, "slow(100K)")
		opts := w.downloadOptions(b)
		opts.Progress = func(completed, _ int64) {
			if completed > 0 && ctx.Err() == nil {
				inner := w.downloadOptions(other)
				inner.Progress = nil
				assert.NoError(t, transfer.Download(t.Context(), inner))
				cancel(errOurs)
			}
		}
		require.ErrorIs(t, transfer.Download(ctx, opts), errOurs)
		w.requireBlob(other)
		w.requirePartial(b)
	})
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

func TestTraceOfAnUpload(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		there, mounted, sent, large := w.local(1000), w.local(2000), w.local(3000), w.local(largeSize)
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

// A blob may fail before anything of it was begun.
func TestTraceOfAFailureBeforeTheFirstRequest(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	log, trace := newTraceLog()
	bad := w.remote(1000)
	opts := w.downloadOptions(bad)
	opts.Trace = trace
	name := strings.Replace(bad.Digest, ":", "-", 1)
	require.NoError(t, os.MkdirAll(filepath.Join(opts.DestDir, name), 0o700))
	err := w.download(opts)
	log.check(t, []transfer.Blob{bad}, err)
	requireBlobError(t, err, bad, "download")
	requireBlobError(t, log.failed[bad.Digest], bad, "download")
}

// Of a blob below 1 MiB Moving is not told, also where bytes are thrown away.
func TestTraceOfASmallBlobThatIsWrong(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(100_000)
		w.reg.Fault("GET", b.Digest, "flip(7)")
		opts := w.downloadOptions(b)
		log := tracedDownload(&opts)
		require.NoError(t, w.download(opts))
		assert.Equal(t, []string{"Started", "Retried", "Started", "Done"}, log.order[b.Digest])
	})
}

// Blobs that the registry has confirmed and lacks when it gets the manifest are begun again: none of their
// bytes is in place any more, and each gets Done or Failed.
func TestTraceOfBlobsThatAreLost(t *testing.T) {
	eachInBubbles(t, named("sent again", "refused"), func(
		t *testing.T, mode registrytest.Mode, name string, _ string,
	) {
		w := newWorld(t, mode, registrytest.Options{})
		one, two := w.local(3<<20), w.local(2<<20)
		w.reg.Fault("PUT", "/manifests/", fmt.Sprintf(
			`says(400, {"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","detail":"%s %s"}]})`,
			one.Digest, two.Digest))
		opts := w.uploadOptions(one, two)
		opts.Concurrency, opts.Manifest, opts.ManifestRef = 1, []byte(`{"schemaVersion":2}`), "latest"
		log := tracedUpload(&opts)
		if name == "sent again" {
			require.NoError(t, w.upload(opts))
			log.check(t, opts.Blobs, nil)
			return
		}
		retried := opts.Trace.Retried
		opts.Trace.Retried = func(i transfer.RetryInfo) {
			retried(i)
			if i.Blob.Digest == two.Digest {
				w.reg.Fault("", "", "**403")
			}
		}
		err := w.upload(opts)
		requireStatus(t, err, 403)
		log.check(t, opts.Blobs, err)
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

// Trace is told which files had which bytes of a blob, again where the digest was wrong. None is told of a
// file that had none.
func TestTraceOfWhatIsReused(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for name, c := range map[string]struct {
			damaged bool
			files   []string
			want    []string // which file had bytes, and that the digest was wrong
		}{
			"one file":       {false, []string{"GGUF"}, []string{"0"}},
			"one is no help": {false, []string{"GGUF anew", "GGUF"}, []string{"1"}},
			"damaged":        {true, []string{"GGUF"}, []string{"0", "wrong", "0"}},
		} {
			w := newWorld(t, mode, registrytest.Options{})
			b := w.model("GGUF header")
			opts := w.downloadOptions(b)
			for _, file := range c.files {
				opts.Reuse = append(opts.Reuse, here(t, file))
			}
			if requests := 0; c.damaged { // when what was compared at random places has come
				w.observe(func() {
					if requests++; requests == 44 {
						flipHalf(t, opts.Reuse[0], versions()["GGUF"].At[30])
					}
				})
			}
			var order []string
			var last transfer.ReuseInfo
			log, trace := newTraceLog()
			trace.Reused = func(i transfer.ReuseInfo) {
				log.note(i.Blob.Digest, "Reused", func() {
					order, last = append(order, fmt.Sprint(slices.Index(opts.Reuse, i.Path))), i
				})
			}
			trace.Retried = func(i transfer.RetryInfo) {
				assert.ErrorIs(t, i.Err, transfer.ErrDigestMismatch)
				log.note(i.Blob.Digest, "Retried", func() { order = append(order, "wrong") })
			}
			opts.Trace = trace
			require.NoError(t, w.download(opts))
			log.check(t, opts.Blobs, nil)
			assert.Equal(t, c.want, order, name)
			done := log.done[b.Digest]
			assert.Equal(t, b, last.Blob)
			assert.Equal(t, done.Reused, last.Bytes)
			assert.Equal(t, b.Size, done.Moved+done.Reused)
			assert.Greater(t, done.Reused, b.Size*9/10)
		}
	})
}

// flipHalf damages the middle of a tensor.
func flipHalf(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, tensorSize/2), at+tensorSize/4)
	require.NoError(t, err)
	require.NoError(t, f.Close())
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

// A panic of Reused ends the call as that of any other function.
func TestTracePanicsWhereBytesAreReused(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.model("GGUF header"))
		opts.Reuse = []string{here(t, "GGUF")}
		opts.Trace = &transfer.Trace{Reused: func(transfer.ReuseInfo) { panic("ours") }}
		assert.PanicsWithValue(t, "ours", func() { _ = transfer.Download(t.Context(), opts) })
	})
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

func TestLoggerGetsWhatHappens(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "new"})
		cdn := w.net.Serve("cdn.test", w.reg.CDN(), mode).URL
		w.redirectDownloads(cdn)
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "503->ok")
		var book logBook
		opts := w.downloadOptions(b)
		opts.Logger = book.logger()
		opts.GetToken = func(context.Context, transfer.AuthChallenge) (string, error) { return "new", nil }
		require.NoError(t, w.download(opts))
		told := book.String()
		for _, part := range []string{
			`level=DEBUG msg="download planned" blobs=1 missing=1`,
			`level=DEBUG msg=answer method=GET url=` +
				w.server.URL + "/v2/library/model/blobs/" + b.Digest + " status=503",
			`level=WARN msg="attempt failed, trying again" digest=` + b.Digest + " attempt=1 wait=",
			`level=DEBUG msg="token refused, asking for a new one"`,
			`/blobs/` + b.Digest + " status=307",
			`level=DEBUG msg=answer method=GET url="` + cdn,
			`level=DEBUG msg="registry redirects" host=cdn.test`,
			`level=DEBUG msg="blob in place" digest=` + b.Digest + " size=1000",
			`level=DEBUG msg="download ended" blobs=1 completed=1000 total=1000`,
		} {
			assert.Contains(t, told, part)
		}
	})
}
