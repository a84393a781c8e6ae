package transfer_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestS5DestDir(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	b := w.remote(10)
	opts := w.downloadOptions(b)
	opts.DestDir = filepath.Join(w.dir, "a", "b")
	w.dir = opts.DestDir
	require.NoError(t, w.download(opts))
	fi, err := os.Stat(filepath.Dir(opts.DestDir))
	require.NoError(t, err)
	assert.Zero(t, fi.Mode().Perm()&^0o755)

	opts.DestDir = w.path(b) // a file
	before := len(w.reg.Requests())
	err = transfer.Download(t.Context(), opts)
	require.ErrorIs(t, err, syscall.ENOTDIR)
	var path *fs.PathError
	require.ErrorAs(t, err, &path)
	assert.Len(t, w.reg.Requests(), before)
	w.requireBlob(b)
}

func TestS6DirectoryAtTheFinalName(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	b, other := w.remote(10), w.remote(20)
	require.NoError(t, os.Mkdir(w.path(b), 0o755))
	opts := w.downloadOptions(b, other)
	opts.Concurrency = 1
	err := transfer.Download(t.Context(), opts)
	require.ErrorIs(t, err, syscall.EISDIR)
	var blob *transfer.BlobError
	require.ErrorAs(t, err, &blob)
	assert.Equal(t, b.Digest, blob.Digest)
	assert.Empty(t, w.reg.Requests())
	assert.DirExists(t, w.path(b))
}

// S7 and S8: nothing is written through a link, and what it leads to stays as it is.
func TestS7S8Links(t *testing.T) {
	for _, suffix := range []string{"", ".partial", ".journal", ".tmp"} {
		for _, size := range []int{1000, largeSize} {
			t.Run(suffix+sizeName(size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					b := w.remoteOf(size)
					victim := filepath.Join(t.TempDir(), "victim")
					require.NoError(t, os.WriteFile(victim, []byte("untouched"), 0o644))
					require.NoError(t, os.Symlink(victim, w.path(b)+suffix))
					require.NoError(t, w.download(w.downloadOptions(b)))
					left, err := os.ReadFile(victim)
					require.NoError(t, err)
					assert.Equal(t, "untouched", string(left))
					fi, err := os.Lstat(w.path(b))
					require.NoError(t, err)
					assert.True(t, fi.Mode().IsRegular())
				})
			})
		}
	}
}

func TestS9Verify(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		good, bad := w.local(1000), w.remote(1001)
		wrong := make([]byte, bad.Size)
		require.NoError(t, os.WriteFile(w.path(bad), wrong, 0o644))
		opts := w.downloadOptions(good, bad)
		require.NoError(t, transfer.Download(t.Context(), opts), "trusted by default")
		assert.Empty(t, w.reg.Requests())
		opts.Verify = true
		require.NoError(t, w.download(opts))
		assert.Equal(t, 1, w.gets(bad))
		assert.Zero(t, w.gets(good))
	})
}

func TestS9VerifyWithoutARegistry(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	w.server.Close()
	opts := w.downloadOptions(w.local(1000), w.local(2000))
	opts.Verify = true
	require.NoError(t, w.download(opts))
}

func TestS10WrongSizeIsReplaced(t *testing.T) {
	for _, wrong := range []string{"", "short", strings.Repeat("long", 1000)} {
		t.Run(sizeName(len(wrong)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				b := w.remote(1000)
				require.NoError(t, os.WriteFile(w.path(b), []byte(wrong), 0o644))
				require.NoError(t, w.download(w.downloadOptions(b)))
				assert.Equal(t, 1, w.gets(b))
				w.requireOnly(b)
			})
		})
	}
}

// S11: what an earlier program left under the final name and ".tmp" is used as far as it goes.
func TestS11Prefix(t *testing.T) {
	const size = mebibyte
	for name, c := range map[string]struct {
		left  func(data []byte) []byte
		bytes int64
	}{
		"half":        {func(data []byte) []byte { return data[:size/2] }, size / 2},
		"whole":       {func(data []byte) []byte { return data }, 0},
		"too long":    {func(data []byte) []byte { return append(data[:size:size], 0) }, size},
		"wrong":       {func([]byte) []byte { return make([]byte, size/2) }, size/2 + size/2},
		"wrong whole": {func([]byte) []byte { return make([]byte, size) }, size},
		"empty":       {func([]byte) []byte { return nil }, size},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				b := w.remote(size)
				require.NoError(t, os.WriteFile(w.path(b)+".tmp", c.left(w.data(b)), 0o644))
				_, err := w.timed(w.downloadOptions(b))
				require.NoError(t, err)
				assert.Equal(t, c.bytes, w.reg.BytesSent())
				w.requireOnly(b)
			})
		})
	}
}

// S11 and S20: a partial is never believed: only what is damaged or missing is fetched again.
func TestS11Partial(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, partial, journal string)
		bytes int64 // fetched again at most, of the 20 MiB that were there
	}{
		"untouched": {func(*testing.T, string, string) {}, 0},
		"a bit is wrong": {func(t *testing.T, partial, _ string) { flipBit(t, partial, 5*mebibyte) },
			4 * mebibyte},
		"cut": {func(t *testing.T, partial, _ string) {
			require.NoError(t, os.Truncate(partial, 10*mebibyte))
		}, 12 * mebibyte},
		"no data": {func(t *testing.T, partial, _ string) { require.NoError(t, os.Remove(partial)) },
			20 * mebibyte},
		"no journal": {func(t *testing.T, _, journal string) { require.NoError(t, os.Remove(journal)) },
			20 * mebibyte},
		"journal of junk": {func(t *testing.T, _, journal string) {
			require.NoError(t, os.WriteFile(journal, []byte("junk"), 0o644))
		}, 20 * mebibyte},
		"journal cut short": {func(t *testing.T, _, journal string) {
			require.NoError(t, os.Truncate(journal, 5))
		}, 20 * mebibyte},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				b := w.remoteLarge()
				w.leavePartial(b, 20*mebibyte)
				c.spoil(t, w.path(b)+".partial", w.path(b)+".journal")
				before := w.reg.BytesSent()
				_, err := w.timed(w.downloadOptions(b))
				require.NoError(t, err)
				again := w.reg.BytesSent() - before - (b.Size - 20*mebibyte)
				assert.LessOrEqual(t, again, c.bytes)
				assert.Equal(t, c.bytes > 0, again > 0)
				w.requireOnly(b)
			})
		})
	}
}

// S20: what a crash has damaged is repaired, and what came wrong with the rest is too.
func TestS20DamagedOnDiskAndOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.remoteLarge()
		w.leavePartial(b, 20*mebibyte)
		flipBit(t, w.path(b)+".partial", 5*mebibyte)
		w.reg.Fault("GET", b.Digest, "flip(777)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		w.requireOnly(b)
	})
}

// E10: what an earlier run left is not what a mirror or the registry sent. Each of them has one more try.
func TestE10WrongFullPartialIsNoFailureOfTheRegistry(t *testing.T) {
	for _, size := range []int{mebibyte, largeSize} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.remoteOf(size)
			require.NoError(t, os.WriteFile(w.path(b)+".partial", make([]byte, size), 0o644))
			w.reg.Fault("GET", b.Digest, "flip(777)")
			require.NoError(t, w.download(w.downloadOptions(b)))
			w.requireOnly(b)
		})
	}
}

// E15: a blob that is right is not fetched again because it could not get its name.
func TestE15FailedRenameFetchesNothingAgain(t *testing.T) {
	for _, size := range []int{1000, mebibyte, largeSize} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.remoteOf(size)
			w.observe(func() { _ = os.Mkdir(w.path(b), 0o755) })
			require.ErrorIs(t, w.download(w.downloadOptions(b)), syscall.EISDIR)
			require.NoError(t, os.Remove(w.path(b)))
			w.reg.Configure(func(o *registrytest.Options) { o.Before = nil })
			sent := w.reg.BytesSent()
			w.progress = &progressLog{}
			require.NoError(t, w.download(w.downloadOptions(b)))
			assert.Equal(t, sent, w.reg.BytesSent())
			assert.Equal(t, b.Size, w.progress.first())
			w.requireOnly(b)
		})
	}
}

func TestInsufficientSpace(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	err := w.download(w.downloadOptions(transfer.Blob{Digest: "sha256:" + someHex, Size: 1 << 60}))
	require.ErrorIs(t, err, transfer.ErrInsufficientSpace)
	assert.Empty(t, w.reg.Requests())
	assert.Empty(t, w.progress.calls)
	w.requireOnly()
}

// S25: what has come of small blobs survives a cancel and a deadline.
func TestS25CutShortAgainAndAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		blobs := []transfer.Blob{w.remote(300 << 10), w.remote(3 * mebibyte), w.remote(8 * mebibyte)}
		w.reg.Fault("GET", "", "**slow(200K)")
		total := blobs[0].Size + blobs[1].Size + blobs[2].Size
		for calls := 1; ; calls++ {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			opts := w.downloadOptions(blobs...)
			opts.Progress, opts.Concurrency = nil, 3
			err := transfer.Download(ctx, opts)
			cancel()
			w.reg.Wait()
			if err == nil {
				assert.Greater(t, calls, 3)
				break
			}
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, calls, 8)
		}
		assert.Less(t, w.reg.BytesSent(), total*13/10)
		w.requireOnly(blobs...)
	})
}

// S25: blobs of all sizes over a link of 2 MiB/s, in calls of a second and a half.
func TestS25DeadlinesThatAreTooShort(t *testing.T) {
	for name, sizes := range map[string][]int{
		"256 KiB": repeat(32, 256<<10), "1 MiB": repeat(12, mebibyte), "8 MiB": repeat(2, 8*mebibyte),
		"all": append(append(repeat(8, 256<<10), repeat(4, mebibyte)...), 8*mebibyte),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				link := &slowLink{speed: 2 * mebibyte}
				opts, total := w.downloadOptions(), 0
				for i, size := range sizes {
					opts.Blobs = append(opts.Blobs, w.remote(size+i))
					total += size + i
				}
				opts.BaseURL = w.net.Serve("slow.test", link.over(w.reg), registrytest.H1).URL
				opts.Progress = nil
				calls := 0
				for err := errors.New("not begun"); err != nil; calls++ {
					require.Less(t, calls, 50)
					ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
					err = transfer.Download(ctx, opts)
					cancel()
				}
				w.reg.Wait()
				needed := (total + 3*mebibyte - 1) / (3 * mebibyte)
				assert.LessOrEqual(t, calls, (needed*3+1)/2, "calls")
				assert.LessOrEqual(t, w.reg.BytesSent(), int64(total)*13/10)
				w.requireOnly(opts.Blobs...)
			})
		})
	}
}

func repeat(n, size int) (sizes []int) {
	for range n {
		sizes = append(sizes, size)
	}
	return sizes
}

// S12: several calls on one directory fetch each blob once, and all of them succeed.
func TestS12CallsAtTheSameTime(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		var blobs []transfer.Blob
		for i := range 20 {
			blobs = append(blobs, w.remote(10_000+i))
		}
		blobs = append(blobs, w.remoteLarge())
		w.reg.Fault("GET", "", "**delay(1s)")
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				opts := w.downloadOptions(blobs...)
				var log progressLog
				opts.Progress = log.add
				assert.NoError(t, transfer.Download(t.Context(), opts))
				log.check(t, nil)
			})
		}
		calls.Wait()
		w.reg.Wait()
		for _, b := range blobs[:20] {
			assert.Equal(t, 1, w.gets(b))
		}
		var total int64
		for _, b := range blobs {
			total += b.Size
		}
		assert.LessOrEqual(t, w.reg.BytesSent(), total+total/10)
		w.requireOnly(blobs...)
	})
}

// S12: when the call that had the blob fails, the one that waits goes on with it.
func TestS12WaiterGoesOn(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "ok->stall(1M)")
		ctx, cancel := withCancelAfter(t, 5*time.Second)
		defer cancel()
		opts := w.downloadOptions(b)
		opts.Concurrency = 1
		wait := w.hold(ctx, opts)
		took, err := w.timed(opts)
		require.NoError(t, err)
		wait()
		assert.Less(t, took, 10*time.Second)
		assert.LessOrEqual(t, w.reg.BytesSent(), b.Size+mebibyte)
	})
}

// S24: a call whose registry brings nothing is waited for as long as the waiter's own options say.
func TestS24HolderThatBringsNothing(t *testing.T) {
	for _, size := range []int{1000, mebibyte, largeSize} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.remoteOf(size)
			w.reg.Fault("GET", b.Digest, "stall(500)")
			ctx, cancel := context.WithCancelCause(t.Context())
			opts := w.downloadOptions(b)
			opts.StallTimeout, opts.RetryTimeout, opts.Concurrency = time.Hour, time.Hour, 1
			wait := w.hold(ctx, opts)
			var log logBook
			opts = w.downloadOptions(b)
			opts.StallTimeout, opts.Logger = 2*time.Second, log.logger()
			took, err := w.timedAlone(opts)
			require.NoError(t, err)
			assert.InDelta(t, 2, took.Seconds(), 1)
			assert.Contains(t, log.String(), "waiting for it")
			assert.Contains(t, log.String(), "fetching it too")
			cancel(errOurs)
			wait()
			w.reg.Wait()
			w.requireOnly(b)
		})
	}
}

// S24: RetryTimeout holds too, and where the registry is dead for the waiter as well, that is the error.
func TestS24HolderAndWaiterOfADeadRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "**stallheaders")
		ctx, cancel := context.WithCancelCause(t.Context())
		opts := w.downloadOptions(b)
		opts.RetryTimeout = time.Hour
		wait := w.hold(ctx, opts)
		opts.StallTimeout, opts.RetryTimeout = time.Minute, 3*time.Second
		took, err := w.timedAlone(opts)
		require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
		assert.Less(t, took, 3*time.Second+time.Minute+5*time.Second)
		cancel(errOurs)
		wait()
		w.reg.Wait()
	})
}

// S24: nothing is fetched twice while the other call gets on, also of blobs that wait there for their turn.
func TestS24HolderThatGetsOnFetchesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		var blobs []transfer.Blob
		var total int64
		for range 8 {
			blobs = append(blobs, w.remote(4*mebibyte))
			total += 4 * mebibyte
		}
		var calls sync.WaitGroup
		for i := range 2 {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * time.Second)
				opts := w.downloadOptions(blobs...)
				opts.Progress, opts.StallTimeout = nil, 2*time.Second
				opts.Concurrency, opts.MaxBytesPerSecond = 8, mebibyte
				opts.BodyConcurrency = 1
				assert.NoError(t, transfer.Download(t.Context(), opts))
			})
		}
		calls.Wait()
		w.reg.Wait()
		assert.LessOrEqual(t, w.reg.BytesSent(), total+total/20)
		w.requireOnly(blobs...)
	})
}

// timedAlone is timed where another call is under way, whose requests are not waited for.
func (w *world) timedAlone(opts transfer.DownloadOptions) (time.Duration, error) {
	w.t.Helper()
	start := time.Now()
	err := w.download(opts)
	return time.Since(start), err
}

// childOf runs the test again in a process of its own, with the variable set, and
// returns what it said and how it ended.
func childOf(t *testing.T, variable, value string) (string, error) {
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"="+value)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
