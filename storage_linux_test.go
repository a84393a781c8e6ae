package transfer_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// onTmpfs runs the test again in a process that may mount, with a small file system of its own, and tells
// whether this is that process.
func onTmpfs(t *testing.T, options string) (dir string, inside bool) {
	const child = "TRANSFER_TEST_TMPFS"
	if dir := os.Getenv(child); dir != "" {
		require.NoError(t, syscall.Mount("none", dir, "tmpfs", 0, options))
		t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
		return dir, true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return "", false
}

// S1: the disk fills up while a blob is written. It looked as if there were space, because another
// program takes it.
func TestS1DiskFull(t *testing.T) {
	dir, inside := onTmpfs(t, "size=4m")
	if !inside {
		return
	}
	for _, size := range []int{3 * mebibyte, 3*mebibyte - 1} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			w.dir = filepath.Join(dir, "blobs")
			b, small := w.remote(size), w.remote(1000)
			hog := filepath.Join(dir, "hog")
			w.progress = &progressLog{}
			opts := w.downloadOptions(b)
			opts.Progress = func(completed, total int64) {
				w.progress.add(completed, total)
				if len(w.progress.calls) == 1 {
					assert.NoError(t, os.WriteFile(hog, make([]byte, 2*mebibyte), 0o644))
				}
			}
			w.reg.Fault("GET", b.Digest, "delay(1s)")
			_, err := w.timed(opts)
			w.requirePathError(err, b, syscall.ENOSPC)
			assert.Equal(t, 1, w.gets(b))

			w.progress = &progressLog{}
			require.NoError(t, os.Remove(hog))
			w.progress = &progressLog{}
			sent := w.reg.BytesSent()
			require.NoError(t, w.download(w.downloadOptions(b, small)), "now there is space")
			assert.Less(t, w.reg.BytesSent()-sent, b.Size, "what had come is kept")
			w.requireOnly(b, small)
			require.NoError(t, os.RemoveAll(w.dir))
		})
	}
}

// S4: a file system that is mounted read-only.
func TestS4ReadOnly(t *testing.T) {
	dir, inside := onTmpfs(t, "size=4m")
	if !inside {
		return
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		w.dir = dir
		there, b := w.local(500), w.remote(1000)
		require.NoError(t, syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		took, err := w.timed(w.downloadOptions(b))
		w.requirePathError(err, b, syscall.EROFS)
		assert.Zero(t, took)
		assert.Empty(t, w.reg.Requests(), "before the first byte")
		w.progress = &progressLog{}
		require.NoError(t, w.download(w.downloadOptions(there)), "what is there needs no writing")
	})
}

// E14: what earlier calls have left of a blob is no reason why there is no space for it.
func TestE14StaleFilesMakeSpace(t *testing.T) {
	dir, inside := onTmpfs(t, "size=8m")
	if !inside {
		return
	}
	for what, suffixes := range map[string][]string{
		"data without a journal":     {".partial"},
		"data that nobody continues": {".partial-dead"},
		"data of a later name":       {".partial", ".partial.1"},
		"a prefix beside data":       {".partial", ".tmp"},
		"a prefix that is too long":  {".tmp"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			w.dir = filepath.Join(dir, "blobs")
			require.NoError(t, os.Mkdir(w.dir, 0o755))
			b := w.remote(6 * mebibyte)
			for _, suffix := range suffixes {
				size := 5 * mebibyte / len(suffixes)
				if what == "a prefix that is too long" {
					size = 7 * mebibyte
				}
				require.NoError(t, os.WriteFile(w.path(b)+suffix, make([]byte, size), 0o644))
			}
			require.NoError(t, w.download(w.downloadOptions(b)), what)
			w.requireOnly(b)
			require.NoError(t, os.RemoveAll(w.dir))
		})
	}
}
