package sessions

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func files(t *testing.T, s Store) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	require.NoError(t, err)
	return entries
}

func TestSessionIsRememberedUntilForgotten(t *testing.T) {
	s := Store{dir: filepath.Join(t.TempDir(), "a", "b")}
	e := s.Claim("blob")
	assert.Empty(t, e.Session())
	e.Save("https://registry.example/a-long-one-that-is-replaced-by-a-shorter")
	e.Save("https://registry.example/1")
	e.Close(true)

	info, err := files(t, s)[0].Info()
	require.NoError(t, err)
	if runtime.GOOS != "windows" { // which has no such permissions
		assert.EqualValues(t, 0o600, info.Mode().Perm())
	}
	another := s.Claim("another")
	assert.Empty(t, another.Session())
	another.Close(false)

	e = s.Claim("blob")
	assert.Equal(t, "https://registry.example/1", e.Session())
	e.Close(false)
	e = s.Claim("blob")
	defer e.Close(false)
	assert.Empty(t, e.Session())
}

func TestOnlyOneHasTheSession(t *testing.T) {
	s := Store{dir: t.TempDir()}
	e := s.Claim("blob")
	e.Save("x")
	other := s.Claim("blob")
	require.Nil(t, other)
	open := 0
	links, err := filepath.Glob("/proc/self/fd/*") // none where there is no such directory
	require.NoError(t, err)
	for _, link := range links {
		if target, _ := os.Readlink(link); target == filepath.Join(s.dir, e.name) {
			open++
		}
	}
	assert.LessOrEqual(t, open, 1, "descriptors of what could not be claimed")
	assert.Empty(t, other.Session())
	other.Save("y")
	other.Close(false)
	e.Close(true)
	e = s.Claim("blob")
	assert.Equal(t, "x", e.Session())
	e.Close(false)
	assert.Empty(t, files(t, s))
}

func TestWhatCannotBeReadIsNothing(t *testing.T) {
	for name, content := range map[string]string{
		"torn": `{"blob":"bl`, "another blob's": `{"blob":"other","session":"x"}`, "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			s := Store{dir: t.TempDir()}
			e := s.Claim("blob")
			require.NoError(t, os.WriteFile(filepath.Join(s.dir, e.name), []byte(content), 0o600))
			e.Close(true)
			e = s.Claim("blob")
			assert.Empty(t, e.Session())
			e.Close(false)
		})
	}
}

func TestOldSessionsAreNotUsed(t *testing.T) {
	s := Store{dir: t.TempDir()}
	e := s.Claim("blob")
	e.Save("x")
	old := time.Now().Add(-maxAge - time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(s.dir, e.name), old, old))
	e.Close(true)
	e = s.Claim("blob")
	assert.Empty(t, e.Session())
	e.Close(false)
}

func TestWithoutADirectoryNothingIsRemembered(t *testing.T) {
	assert.Nil(t, Store{}.Claim("blob"))
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	assert.Nil(t, Store{dir: file}.Claim("blob"))
}

// S22: a link in the store is not followed: what it leads to is not truncated, and the session is
// remembered all the same.
func TestS22LinksAreNotFollowed(t *testing.T) {
	links := map[string]func(victim, name string) error{"symbolic": os.Symlink, "hard": os.Link}
	for what, link := range links {
		t.Run(what, func(t *testing.T) {
			base := t.TempDir()
			s := Store{dir: filepath.Join(base, "store")}
			e := s.Claim("blob")
			name := filepath.Join(s.dir, e.name)
			e.Close(false)
			victim := filepath.Join(base, "victim")
			require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
			require.NoError(t, link(victim, name))

			e = s.Claim("blob")
			assert.Empty(t, e.Session())
			e.Save("x")
			e.Close(true)
			left, err := os.ReadFile(victim)
			require.NoError(t, err)
			assert.Equal(t, "precious", string(left))
			e = s.Claim("blob")
			assert.Equal(t, "x", e.Session())
			e.Close(false)
			assert.Empty(t, files(t, s))
			left, err = os.ReadFile(victim)
			require.NoError(t, err)
			assert.Equal(t, "precious", string(left))
		})
	}
}

// S22: a directory in the place of an entry stays, and nothing is remembered.
func TestS22DirectoryInTheStore(t *testing.T) {
	s := Store{dir: t.TempDir()}
	e := s.Claim("blob")
	name := filepath.Join(s.dir, e.name)
	e.Close(false)
	require.NoError(t, os.Mkdir(name, 0o700))
	assert.Nil(t, s.Claim("blob"))
	require.NoError(t, os.WriteFile(filepath.Join(name, "x"), nil, 0o600))
	assert.Nil(t, s.Claim("blob"))
	assert.DirExists(t, name)
}

// E17: blobs that were only begun take no descriptor, and those with a session take one.
func TestE17OnlySessionsTakeADescriptor(t *testing.T) {
	s := Store{dir: filepath.Join(t.TempDir(), "a")}
	count := func() int {
		links, err := filepath.Glob("/proc/self/fd/*")
		require.NoError(t, err)
		return len(links)
	}
	before := count()
	var entries []*Entry
	for i := range 160 {
		entries = append(entries, s.Claim(strconv.Itoa(i)))
	}
	assert.Equal(t, before, count())
	for _, e := range entries[:10] {
		e.Save("https://registry.example/1")
	}
	if before > 0 { // where there is such a directory
		assert.Equal(t, before+10, count())
	}
	for _, e := range entries {
		e.Close(false)
	}
	assert.Equal(t, before, count())
	assert.Empty(t, files(t, s))
}

// E17: of two uploads that have begun before there was a session, one remembers its own.
func TestE17TheFirstSessionIsRemembered(t *testing.T) {
	s := Store{dir: t.TempDir()}
	one, other := s.Claim("blob"), s.Claim("blob")
	one.Save("1")
	other.Save("2")
	assert.Equal(t, []bool{true, false}, []bool{one.Holds(), other.Holds()})
	other.Close(false)
	one.Close(true)
	e := s.Claim("blob")
	assert.Equal(t, "1", e.Session())
	e.Close(false)
}

// E17: of several uploads that have a session at the same moment, one remembers its own.
func TestE17OfManyAtOnceOneIsRemembered(t *testing.T) {
	for range 200 {
		s := Store{dir: t.TempDir()}
		var entries [4]*Entry
		var all sync.WaitGroup
		for i := range entries {
			entries[i] = s.Claim("blob")
		}
		for _, e := range entries {
			all.Go(func() { e.Save("x") })
		}
		all.Wait()
		holders := 0
		for _, e := range entries {
			if e.Holds() {
				holders++
			}
		}
		require.Equal(t, 1, holders)
		for _, e := range entries {
			e.Close(false)
		}
	}
}

// What calls have left that nobody has run again does not stay for ever.
func TestE18OldSessionsAreSwept(t *testing.T) {
	s := Store{dir: t.TempDir()}
	old := time.Now().Add(-maxAge - time.Hour)
	name := func(blob string, age time.Time, close bool) string {
		e := s.Claim(blob)
		e.Save("https://registry.example/1")
		if close {
			e.Close(true)
		} else {
			t.Cleanup(func() { e.Close(false) })
		}
		require.NoError(t, os.Chtimes(filepath.Join(s.dir, e.name), age, age))
		return e.name
	}
	swept := name("old", old, true)
	young := time.Now().Add(-maxAge + time.Hour)
	kept := []string{name("young", young, true), name("in use", old, false), "notes.txt"}
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "notes.txt"), nil, 0o600))
	require.NoError(t, os.Chtimes(filepath.Join(s.dir, "notes.txt"), old, old))
	s.Sweep()
	assert.NoFileExists(t, filepath.Join(s.dir, swept))
	for _, name := range kept {
		assert.FileExists(t, filepath.Join(s.dir, name))
	}
	Store{}.Sweep()
	Store{dir: filepath.Join(s.dir, "missing")}.Sweep()
}
