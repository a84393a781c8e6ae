//go:build unix

package transfer_test

import (
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// limitSelf lowers a limit of this process, which has to be a child.
func limitSelf(t *testing.T, which int, n uint64) {
	limit := syscall.Rlimit{Cur: n, Max: n}
	require.NoError(t, syscall.Setrlimit(which, &limit))
}

// requirePathError checks that a file system error ended the call at once, and that nothing is left;
// but a full disk keeps what is recorded.
func (w *world) requirePathError(err error, b transfer.Blob, cause syscall.Errno) {
	w.t.Helper()
	require.ErrorIs(w.t, err, cause)
	require.NotErrorIs(w.t, err, transfer.ErrRetriesExhausted)
	var path *fs.PathError
	require.ErrorAs(w.t, err, &path)
	assert.Contains(w.t, path.Path, w.dir)
	var blob *transfer.BlobError
	require.ErrorAs(w.t, err, &blob)
	assert.Equal(w.t, b.Digest, blob.Digest)
	if cause != syscall.ENOSPC && cause != syscall.EFBIG {
		w.requireNothing(b)
		return
	}
	w.requirePartial(b)
}

// S1 and S3: what cannot be written fails at once, and leaves nothing under a final name.
func TestS3FileTooLarge(t *testing.T) {
	const child = "TRANSFER_TEST_LIMITED"
	if os.Getenv(child) == "" {
		out, err := childOf(t, child, "1")
		require.NoError(t, err, out)
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	limitSelf(t, syscall.RLIMIT_FSIZE, mebibyte)
	for _, size := range []int{2 * mebibyte, largeSize} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			small, b := w.remote(1000), w.remoteOf(size)
			opts := w.downloadOptions(b, small)
			opts.Concurrency = 1
			w.reg.Fault("GET", b.Digest, "slow(1M)")
			took, err := w.timed(opts)
			w.requirePathError(err, b, syscall.EFBIG)
			require.ErrorIs(t, err, transfer.ErrInsufficientSpace, "as where the disk is full")
			assert.ErrorContains(t, err, "a limit of the process", "there is space")
			assert.Equal(t, 1, w.gets(b))
			assert.Less(t, took, 1500*time.Millisecond, "nothing is read beyond the first MiB")
			require.NoError(t, w.download(w.downloadOptions(small)))
		})
	}
}

func TestS4NoPermission(t *testing.T) {
	const child = "TRANSFER_TEST_NOBODY"
	if os.Geteuid() == 0 && os.Getenv(child) == "" { // root may write everywhere
		out, err := childOf(t, child, "1")
		require.NoError(t, err, out)
		return
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.remote(1000)
		require.NoError(t, os.Chmod(w.dir, 0o555))
		if os.Geteuid() == 0 {
			require.NoError(t, os.Chmod(filepath.Dir(w.dir), 0o755))
			require.NoError(t, syscall.Setreuid(-1, 65534))
			defer func() { require.NoError(t, syscall.Setreuid(-1, 0)) }()
		}
		took, err := w.timed(w.downloadOptions(b))
		w.requirePathError(err, b, syscall.EACCES)
		assert.Less(t, took, noBackoff)
		assert.Empty(t, w.reg.Requests(), "before the first byte")
	})
}

// S5: the umask alone decides who may read and write what is created.
func TestS5ModeOfWhatIsCreated(t *testing.T) {
	for umask, want := range map[int]struct{ dir, file fs.FileMode }{
		0: {0o777, 0o666}, 0o002: {0o775, 0o664}, 0o022: {0o755, 0o644}, 0o077: {0o700, 0o600},
	} {
		synctest.Test(t, func(t *testing.T) {
			defer syscall.Umask(syscall.Umask(umask))
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.remote(10)
			w.dir = filepath.Join(w.dir, "a", "b")
			require.NoError(t, w.download(w.downloadOptions(b)))
			for path, want := range map[string]fs.FileMode{
				w.dir: want.dir, filepath.Dir(w.dir): want.dir, w.path(b): want.file,
			} {
				fi, err := os.Stat(path)
				require.NoError(t, err)
				assert.Equal(t, want, fi.Mode().Perm(), path)
			}
		})
	}
}

func TestS8PipeAtPartial(t *testing.T) {
	for _, suffix := range []string{"", ".partial", ".journal", ".tmp"} {
		t.Run(suffix, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				b := w.remote(1000)
				require.NoError(t, syscall.Mkfifo(w.path(b)+suffix, 0o644))
				require.NoError(t, w.download(w.downloadOptions(b)))
			})
		})
	}
}

// S12: a partial of another user can be neither continued nor waited for.
func TestS12PartialOfAnotherUser(t *testing.T) {
	const child = "TRANSFER_TEST_STRANGER"
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file of another user")
	}
	if os.Getenv(child) == "" {
		out, err := childOf(t, child, "1")
		require.NoError(t, err, out)
		return
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		for _, dir := range []string{w.dir, filepath.Dir(w.dir)} {
			require.NoError(t, os.Chmod(dir, 0o777))
		}
		small, large := w.remote(1000), w.remoteLarge()
		for _, b := range []transfer.Blob{small, large} {
			require.NoError(t, os.WriteFile(w.path(b)+".partial", []byte("theirs"), 0o644))
		}
		require.NoError(t, syscall.Setreuid(-1, 65534))
		defer func() { require.NoError(t, syscall.Setreuid(-1, 0)) }()
		require.NoError(t, w.download(w.downloadOptions(small, large)))
		left, err := os.ReadFile(w.path(small) + ".partial")
		require.NoError(t, err)
		assert.Equal(t, "theirs", string(left))
	})
}

// S12: a call waits for another process only as long as its context allows.
func TestS12WaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.remote(1000)
		f, err := os.Create(w.path(b) + ".partial")
		require.NoError(t, err)
		defer f.Close()
		require.NoError(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
		ctx, cancel := withCancelAfter(t, time.Minute)
		defer cancel()
		start := time.Now()
		opts := w.downloadOptions(b)
		opts.StallTimeout = time.Hour // S24
		err = transfer.Download(ctx, opts)
		require.ErrorIs(t, err, errOurs)
		assert.Less(t, time.Since(start), time.Minute+time.Second)
		assert.Empty(t, w.reg.Requests())
		require.NotErrorIs(t, err, transfer.ErrStalled, "waiting for another is no stall")
	})
}

// S17: without free descriptors there are fewer at once, and errors are tried again.
func TestS17FewDescriptors(t *testing.T) {
	const child = "TRANSFER_TEST_DESCRIPTORS"
	if os.Getenv(child) == "" {
		out, err := childOf(t, child, "1")
		require.NoError(t, err, out)
		return
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		w.reg.Fault("GET", "", "**delay(1s)")
		opts := w.downloadOptions()
		for i := range 100 {
			opts.Blobs = append(opts.Blobs, w.remote(100+i))
		}
		opts.Concurrency = 30
		// 8: what the runtime has itself
		limitSelf(t, syscall.RLIMIT_NOFILE, uint64(registrytest.Descriptors()+opts.Concurrency*2+8))
		require.NoError(t, transfer.Download(t.Context(), opts))
	})
}

// S17: with a descriptor for each blob that is begun, and few more, all are finished.
func TestS17FewDescriptorsToFinishWith(t *testing.T) {
	const child = "TRANSFER_TEST_FEWER_DESCRIPTORS"
	if os.Getenv(child) == "" {
		out, err := childOf(t, child, "1")
		require.NoError(t, err, out)
		return
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		w.reg.Fault("GET", "", "**delay(1s)")
		opts := w.downloadOptions()
		for i := range 100 {
			opts.Blobs = append(opts.Blobs, w.remote(100+i))
		}
		opts.Concurrency = 40
		limitSelf(t, syscall.RLIMIT_NOFILE, uint64(registrytest.Descriptors()+opts.Concurrency+5))
		require.NoError(t, transfer.Download(t.Context(), opts))
	})
}

// E1: a blob that waits for a descriptor, while others of the call have them and get on, spends no budget.
func TestE1WaitingForADescriptorSpendsNoBudget(t *testing.T) {
	const child = "TRANSFER_TEST_WAITING_FOR_DESCRIPTORS"
	if os.Getenv(child) == "" {
		out, err := childOf(t, child, "1")
		require.NoError(t, err, out)
		return
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		link := &slowLink{speed: mebibyte}
		opts := w.downloadOptions()
		opts.BaseURL = w.net.Serve("slow.test", link.over(w.reg), registrytest.H1).URL
		for i := range 6 {
			opts.Blobs = append(opts.Blobs, w.remote(largeSize+i))
		}
		opts.RetryTimeout = 30 * time.Second
		// Two for each of three blobs, and some of the runtime's own.
		limitSelf(t, syscall.RLIMIT_NOFILE, uint64(registrytest.Descriptors()+8))
		require.NoError(t, transfer.Download(t.Context(), opts))
	})
}
