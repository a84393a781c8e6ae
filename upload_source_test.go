package transfer_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// replacedBy returns a function that removes a file and has something else made in its place.
func replacedBy(other func(path string) error) func(path string) error {
	return func(path string) error { return errors.Join(os.Remove(path), other(path)) }
}

func TestU8Source(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"missing":                      os.Remove,
		"directory":                    replacedBy(func(path string) error { return os.Mkdir(path, 0o755) }),
		"S7 link that leads nowhere":   replacedBy(func(path string) error { return os.Symlink("nowhere", path) }),
		"S7 link to a directory":       replacedBy(func(path string) error { return os.Symlink(".", path) }),
		"S7 link that leads to itself": replacedBy(func(path string) error { return os.Symlink(path, path) }),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			good, b := w.local(3<<20), w.local(100)
			require.NoError(t, spoil(w.path(b)))
			err := w.upload(w.uploadOptions(good, b))
			var path *fs.PathError
			require.ErrorAs(t, err, &path)
			requireBlobError(t, err, b, "upload")
			if name == "missing" {
				require.ErrorIs(t, err, fs.ErrNotExist)
			}
			assert.Empty(t, w.reg.Requests(), "all files are looked at before the first request")
		})
	}
	t.Run("no directory", func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		opts := w.uploadOptions(w.local(100))
		opts.SrcDir += "/missing"
		require.ErrorIs(t, w.upload(opts), fs.ErrNotExist)
		opts.SrcDir = w.path(opts.Blobs[0])
		var path *fs.PathError
		require.ErrorAs(t, w.upload(opts), &path)
		assert.Empty(t, w.reg.Requests())
	})
}

// S7: people keep their blobs on another disk.
func TestS7LinkedSourceIsSent(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	b := w.local(100)
	elsewhere := filepath.Join(t.TempDir(), "blob")
	require.NoError(t, os.Rename(w.path(b), elsewhere))
	require.NoError(t, os.Symlink(elsewhere, w.path(b)))
	require.NoError(t, w.upload(w.uploadOptions(b)))
	assert.True(t, w.reg.Has(repository, digest.Digest(b.Digest)))
}

func TestU6SourceOfAnotherSize(t *testing.T) {
	for _, by := range []int64{-1, 1} {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.local(3 << 20)
		require.NoError(t, os.Truncate(w.path(b), b.Size+by))
		err := w.upload(w.uploadOptions(b))
		require.ErrorIs(t, err, transfer.ErrSizeMismatch)
		requireBlobError(t, err, b, "upload")
		assert.Empty(t, w.reg.Requests())
	}
}

func TestU7FileThatIsNotItsDigest(t *testing.T) {
	for name, size := range map[string]int{"small": 1000, "large": 3 << 20} {
		for _, opts := range []registrytest.Options{{}, {SingleShot: true}, {MaxBody: 2 << 20}} {
			t.Run(fmt.Sprintf("%s %v %d", name, opts.SingleShot, opts.MaxBody), func(t *testing.T) {
				inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
					w := newWorld(t, mode, opts)
					b := w.local(size)
					wrong := append([]byte(nil), w.data(b)...)
					wrong[0] ^= 1
					require.NoError(t, os.WriteFile(w.path(b), wrong, 0o644))
					up := w.uploadOptions(b)
					up.Manifest, up.ManifestRef = []byte(`{}`), "latest"
					begun := time.Now()
					err := w.upload(up)
					require.ErrorIs(t, err, transfer.ErrDigestMismatch)
					requireBlobError(t, err, b, "upload")
					assert.Less(t, time.Since(begun), time.Second)
					w.requireNotUploaded(b)
					assert.Less(t, w.reg.BytesReceived(), b.Size, "the last bytes are held back")
				})
			})
		}
	}
}

func TestU6U7SourceThatChangesWhileItIsSent(t *testing.T) {
	type fileChange func(path string) error
	cases := map[string]fileChange{
		"U7 other bytes": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("changed"), 9<<20)
			return errors.Join(err, f.Close())
		},
		"U6 shorter": func(path string) error { return os.Truncate(path, 8<<20) },
		"U6 longer":  func(path string) error { return os.Truncate(path, 11<<20) },
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, name string, change fileChange) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "slow(1M)")
		b := w.local(10 << 20)
		time.AfterFunc(2*time.Second, func() { assert.NoError(t, change(w.path(b))) })
		err := w.upload(w.uploadOptions(b))
		if strings.HasPrefix(name, "U7") {
			require.ErrorIs(t, err, transfer.ErrDigestMismatch)
		} else {
			require.ErrorIs(t, err, transfer.ErrSizeMismatch)
		}
		w.reg.Wait()
		_, there := w.reg.Blob(digest.Digest(b.Digest))
		assert.False(t, there)
		assert.Equal(t, 1, w.reg.Count("PUT", "/uploads/"))
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestUploadWhoseFileWasAnotherInAnEarlierCall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{StrictState: true})
		b := w.local(40 << 20)
		wrong := slices.Clone(w.data(b))
		wrong[0] ^= 1
		require.NoError(t, os.WriteFile(w.path(b), wrong, 0o644))
		w.interrupted(b)
		require.NoError(t, os.WriteFile(w.path(b), w.data(b), 0o644))
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
		assert.Zero(t, w.reg.Sessions())
	})
}
