//go:build unix

package blobstore

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// S7: a link that leads to no file of the blob's size is no blob, no error and never waited for: it is
// replaced.
func TestS7LinkToNoBlob(t *testing.T) {
	content := random(1000)
	dg := digestOf(content)
	leadTo := func(path string) func(_, target string) error {
		return func(_, target string) error { return os.Symlink(path, target) }
	}
	for what, put := range map[string]func(link, target string) error{
		"dangling":         func(_, _ string) error { return nil },
		"loop":             func(link, target string) error { return os.Symlink(link, target) },
		"directory":        func(_, target string) error { return os.Mkdir(target, 0o755) },
		"pipe":             func(_, target string) error { return syscall.Mkfifo(target, 0o644) },
		"of a wrong size":  func(_, target string) error { return os.WriteFile(target, nil, 0o644) },
		"device":           leadTo(os.DevNull),
		"below a file":     leadTo("/etc/hosts/x"),
		"with a long name": leadTo(strings.Repeat("x", 300)),
	} {
		t.Run(what, func(t *testing.T) {
			dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
			link := filepath.Join(dir, nameOf(dg))
			require.NoError(t, os.Symlink(target, link))
			require.NoError(t, put(link, target))
			d := open(t, dir)
			has, err := d.Has(dg, 1000)
			require.NoError(t, err)
			assert.False(t, has)
			ok, err := d.Check(t.Context(), dg, 1000)
			require.NoError(t, err)
			assert.False(t, ok)
			_, err = d.Source(dg, 1000)
			var pe *fs.PathError
			if what != "of a wrong size" {
				require.ErrorAs(t, err, &pe)
			}
			require.Error(t, err)

			p := claim(t, d, content)
			fill(t, p, content)
			commit(t, p)
			requireBlob(t, dir, content)
		})
	}
}

// 10.7: a directory that a group shares stays shared: the umask decides, not the program.
func TestS5ModesAreLeftToTheUmask(t *testing.T) {
	content := random(large)
	for umask, want := range map[int]fs.FileMode{0o002: 0o664, 0o022: 0o644, 0o077: 0o600} {
		dir := filepath.Join(t.TempDir(), "a", "b")
		before := syscall.Umask(umask)
		d, err := Open(dir)
		p := claim(t, d, content)
		write(t, p, content, 0, 1000)
		syscall.Umask(before)
		require.NoError(t, err)
		for _, suffix := range []string{partialSuffix, journalSuffix} {
			fi, err := os.Stat(filepath.Join(dir, p.name+suffix))
			require.NoError(t, err)
			assert.Equal(t, want, fi.Mode().Perm(), suffix)
		}
		for _, parent := range []string{dir, filepath.Dir(dir)} {
			fi, err := os.Stat(parent)
			require.NoError(t, err)
			assert.EqualValues(t, 0o777&^umask, fi.Mode().Perm())
		}
		require.NoError(t, p.Close(false))
		require.NoError(t, d.Close())
	}
}
