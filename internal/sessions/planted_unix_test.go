//go:build unix

package sessions

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// S22: what somebody has put in the place of an entry is never followed, and costs one memory at most.
func TestS22PlantedEntries(t *testing.T) {
	for what, put := range map[string]func(path, victim string) error{
		"link":          func(path, victim string) error { return os.Symlink(victim, path) },
		"dangling link": func(path, victim string) error { return os.Symlink(victim+".none", path) },
		"pipe":          func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			s := Store{dir: t.TempDir()}
			victim := filepath.Join(t.TempDir(), "victim")
			require.NoError(t, os.WriteFile(victim, []byte("victim"), 0o600))
			e := s.Claim("blob")
			path := filepath.Join(s.dir, e.name)
			e.Close(false)
			require.NoError(t, put(path, victim))

			e = s.Claim("blob")
			require.NotNil(t, e)
			assert.Empty(t, e.Session())
			e.Save("https://registry.example/1")
			e.Close(true)
			got, err := os.ReadFile(victim)
			require.NoError(t, err)
			assert.Equal(t, "victim", string(got))
			assert.NoFileExists(t, victim+".none")

			e = s.Claim("blob")
			assert.Equal(t, "https://registry.example/1", e.Session())
			e.Close(false)
			assert.Empty(t, files(t, s))
		})
	}
}

// S22: nor is a directory, which nothing can replace.
func TestS22DirectoryInPlaceOfAnEntry(t *testing.T) {
	s := Store{dir: t.TempDir()}
	e := s.Claim("blob")
	path := filepath.Join(s.dir, e.name)
	e.Close(false)
	require.NoError(t, os.Mkdir(path, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(path, "x"), nil, 0o600))
	assert.Nil(t, s.Claim("blob"))
	assert.DirExists(t, path)
}

// S22: the entry of another user is not ours to trust.
func TestS22EntryOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	s := Store{dir: t.TempDir()}
	e := s.Claim("blob")
	e.Save("https://evil.example/1")
	path := filepath.Join(s.dir, e.name)
	e.Close(true)
	require.NoError(t, os.Chown(path, 12345, 12345))
	e = s.Claim("blob")
	require.NotNil(t, e)
	assert.Empty(t, e.Session())
	e.Close(false)
}
