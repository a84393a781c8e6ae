//go:build unix

package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// versions are two models of one repository, in a registry that counts.
type versions struct {
	t     *testing.T
	s     *server
	front *counting
	url   string
}

func newVersions(t *testing.T, push ...map[string]string) *versions {
	t.Helper()
	v := &versions{t: t, s: startedServer(t)}
	v.front = &counting{next: v.s.http.Handler}
	server := httptest.NewServer(v.front)
	t.Cleanup(server.Close)
	v.url = server.URL + "/me/model:v"
	for i, files := range push {
		v.push(i+1, files)
	}
	return v
}

func (v *versions) ref(i int) string { return v.url + string(rune('0'+i)) }

func (v *versions) push(i int, files map[string]string, flags ...string) {
	v.t.Helper()
	must(v.t, append([]string{"push", tree(v.t, files), v.ref(i)}, flags...)...)
}

// fetched pulls and returns how many bytes of blobs came, and what was said.
func (v *versions) fetched(i int, dir string, flags ...string) (bytes int64, stdout string) {
	v.t.Helper()
	before := v.front.moved.Load()
	r := must(v.t, append([]string{"pull", v.ref(i), dir}, flags...)...)
	return v.front.moved.Load() - before, r.stdout
}

func TestWhatTheModelHasNoLongerIsNamedAndDeleted(t *testing.T) {
	v := newVersions(t,
		map[string]string{"a": "1", "b": "2", "d/e/c": "3", "f/g": "4"},
		map[string]string{"a": "1"})
	dir := t.TempDir()
	v.fetched(1, dir)
	_, said := v.fetched(2, dir)
	assert.Contains(t, said, "b stays: the model has it no longer; --delete removes it\n")
	assert.FileExists(t, filepath.Join(dir, "d/e/c"))
	assert.Contains(t, must(t, "verify", dir).stdout, "1 file, ")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "f/g"), []byte("mine"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "own"), []byte("mine"), 0o600))
	_, said = v.fetched(2, dir, "--dry-run", "--delete")
	assert.Contains(t, said, "would remove b: the model has it no longer\n")
	assert.FileExists(t, filepath.Join(dir, "b"))
	_, said = v.fetched(2, dir, "--delete")
	assert.Contains(t, said, "removed b: the model has it no longer\n")
	assert.Contains(t, said, "removed d/e/c: the model has it no longer\n")
	assert.Contains(t, said, "f/g stays: the model has it no longer, but it was edited\n")
	assert.Equal(t, map[string]string{"a": "1", "f/g": "mine", "own": "mine"}, filesOf(t, dir))
	assert.NoDirExists(t, filepath.Join(dir, "d"), "directories that are empty now go too")
	_, said = v.fetched(2, dir, "--delete")
	assert.NotContains(t, said, "stays", "what was edited is the user's own now")
}

func TestNothingIsDeletedThroughALink(t *testing.T) {
	v := newVersions(t, map[string]string{"a": "1", "d/x": "2"}, map[string]string{"a": "1"})
	for _, where := range []string{"inside", "outside"} {
		t.Run(where, func(t *testing.T) {
			dir := t.TempDir()
			target := filepath.Join(map[string]string{"inside": dir, "outside": t.TempDir()}[where], "other")
			to := map[string]string{"inside": "other", "outside": target}[where]
			v.fetched(1, dir)
			require.NoError(t, os.Rename(filepath.Join(dir, "d"), target))
			link(t, to, filepath.Join(dir, "d"))
			v.fetched(2, dir, "--delete")
			assert.FileExists(t, filepath.Join(target, "x"))
		})
	}
}

func TestMembersThatAnArchiveHasNoLongerAreDeleted(t *testing.T) {
	v := newVersions(t)
	parent := tree(t, map[string]string{"m/a": "1", "m/b": "2", "m/d/c": "3"})
	must(t, "push", "--tar", filepath.Join(parent, "m"), v.ref(1))
	require.NoError(t, os.Remove(filepath.Join(parent, "m/b")))
	require.NoError(t, os.RemoveAll(filepath.Join(parent, "m/d")))
	must(t, "push", "--tar", filepath.Join(parent, "m"), v.ref(2))
	dir := t.TempDir()
	v.fetched(1, dir)
	_, said := v.fetched(2, dir)
	assert.Contains(t, said, "m/b stays: the model has it no longer; --delete removes it\n")
	v.fetched(2, dir, "--delete")
	assert.Equal(t, map[string]string{"m/a": "1"}, filesOf(t, dir))
	assert.NoDirExists(t, filepath.Join(dir, "m/d"))
}

func TestFilesThatAreTheUsersOwnAreKeptOrReplacedAndSaid(t *testing.T) {
	for _, packed := range []string{"files", "archive"} {
		t.Run(packed, func(t *testing.T) {
			v := newVersions(t)
			push := func(i int, files map[string]string) {
				if packed == "files" {
					v.push(i, files)
					return
				}
				must(t, "push", "--tar", filepath.Join(tree(t, files), "m"), v.ref(i))
			}
			push(1, map[string]string{"m/edited": "1", "m/same": "s", "m/left": "1"})
			push(2, map[string]string{
				"m/edited": "22", "m/same": "s", "m/left": "22", "m/own": "new", "m/equal": "==",
			})
			dir := t.TempDir()
			v.fetched(1, dir)
			users := map[string]string{"m/edited": "mine", "m/own": "mine", "m/equal": "=="}
			for name, content := range users {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
			}
			_, said := v.fetched(2, dir, "--keep")
			assert.Contains(t, said, "kept m/edited: it was edited\n")
			assert.Contains(t, said, "kept m/own: it is your own\n")
			assert.NotContains(t, said, "m/left")
			got := filesOf(t, dir)
			assert.Equal(t, "mine", got["m/edited"])
			assert.Equal(t, "mine", got["m/own"])
			assert.Equal(t, "22", got["m/left"])
			assert.Contains(t, must(t, "verify", dir).stdout, "all right", "the user's own is not verified")
			_, said = v.fetched(2, dir, "--keep")
			assert.Equal(t, got, filesOf(t, dir), said)

			_, said = v.fetched(2, dir)
			assert.Contains(t, said, "replaced m/own: it is your own\n")
			assert.Contains(t, said, "replaced m/edited: it is your own\n", "since it was kept")
			assert.NotContains(t, said, "m/equal")
			assert.Equal(t, "22", filesOf(t, dir)["m/edited"])
			assert.Equal(t, "new", filesOf(t, dir)["m/own"])
			_, said = v.fetched(2, dir)
			assert.Contains(t, said, "all there already")
			assert.NotContains(t, said, "replaced")

			require.NoError(t, os.WriteFile(filepath.Join(dir, "m/edited"), []byte("mine"), 0o600))
			r := must(t, "pull", "--quiet", v.ref(2), dir)
			assert.Empty(t, r.stdout)
			assert.Equal(t, "replaced m/edited: it was edited\n", r.stderr, "what is lost is not passed over")
		})
	}
}

func TestAFileThatWasRenamedIsNotFetched(t *testing.T) {
	large := strings.Repeat("weights ", 200_000)
	v := newVersions(t,
		map[string]string{"old.bin": large, "b": "2"},
		map[string]string{"d/new.bin": large, "b": "2"},
		map[string]string{"d/new.bin": large, "copy.bin": large, "b": "2"},
		map[string]string{"d/new.bin": "2", "copy.bin": large, "b": large})
	dir := t.TempDir()
	v.fetched(1, dir)
	n, said := v.fetched(2, dir, "--dry-run")
	assert.Zero(t, n)
	assert.Contains(t, said, "would rename old.bin to d/new.bin\n")
	assert.Contains(t, said, "all there already")
	n, said = v.fetched(2, dir)
	assert.Zero(t, n)
	assert.Contains(t, said, "renamed old.bin to d/new.bin\n")
	assert.NotContains(t, said, "stays")
	assert.Equal(t, map[string]string{"d/new.bin": large, "b": "2"}, filesOf(t, dir))

	n, _ = v.fetched(3, dir)
	assert.Zero(t, n, "a copy is a copy")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "copy.bin"), []byte("edited"), 0o600))
	assert.Equal(t, large, filesOf(t, dir)["d/new.bin"], "who edits one does not edit all")
	n, _ = v.fetched(4, dir)
	assert.Zero(t, n, "files may change places")
	assert.Equal(t, map[string]string{"d/new.bin": "2", "copy.bin": large, "b": large}, filesOf(t, dir))
	assert.Contains(t, must(t, "verify", dir).stdout, "3 files")
}

func TestAnEditedFileIsNotTakenForItsFormerContent(t *testing.T) {
	large := strings.Repeat("weights ", 200_000)
	v := newVersions(t, map[string]string{"old.bin": large}, map[string]string{"new.bin": large})
	dir := t.TempDir()
	v.fetched(1, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old.bin"), []byte("mine"), 0o600))
	n, said := v.fetched(2, dir, "--delete")
	assert.GreaterOrEqual(t, n, int64(len(large)))
	assert.Contains(t, said, "old.bin stays: the model has it no longer, but it was edited")
	assert.Equal(t, map[string]string{"old.bin": "mine", "new.bin": large}, filesOf(t, dir))
}

func TestAFileBecomesADirectoryAndADirectoryAFile(t *testing.T) {
	first := map[string]string{"a": "1", "b/x": "2", "b/y/z": "3", "c": "4"}
	second := map[string]string{"a/x": "1", "a/y/z": "5", "b": "6", "c": "4"}
	v := newVersions(t, first, second)
	dir := t.TempDir()
	v.fetched(1, dir)
	_, said := v.fetched(2, dir, "--dry-run")
	assert.Contains(t, said, "would rename a to a/x\n")
	assert.Contains(t, said, "would remove b/x: the model has it no longer\n")
	assert.Equal(t, first, filesOf(t, dir))
	_, said = v.fetched(2, dir)
	assert.Contains(t, said, "renamed a to a/x\n")
	assert.Contains(t, said, "removed b/x: the model has it no longer\n")
	assert.Contains(t, said, "removed b/y/z: the model has it no longer\n")
	assert.Equal(t, second, filesOf(t, dir))
	assert.Contains(t, must(t, "verify", dir).stdout, "all right")
	v.fetched(1, dir)
	assert.Equal(t, first, filesOf(t, dir))
	assert.Contains(t, must(t, "verify", dir).stdout, "all right")
}

// What somebody has written does not give way: it is named before the first byte.
func TestAnEditedFileDoesNotGiveWayToADirectory(t *testing.T) {
	v := newVersions(t, map[string]string{"a": "1", "b/x": "2"}, map[string]string{"a/x": "3"},
		map[string]string{"a": "1", "b": "4"})
	for i, test := range map[int]struct{ name, way string }{2: {"a", "a"}, 3: {"b/own", "b"}} {
		dir := t.TempDir()
		v.fetched(1, dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, test.name), []byte("mine"), 0o600))
		before := filesOf(t, dir)
		r := runWith(t, "pull", v.ref(i), dir)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.stderr, filepath.Join(dir, test.way)+": file already exists: a ")
		assert.Contains(t, r.stderr, " is in the way")
		assert.Equal(t, before, filesOf(t, dir))
	}
}

// timesOf are the times of all that is in a directory.
func timesOf(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	times := map[string]time.Time{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		times[path] = info.ModTime()
		return err
	}))
	return times
}

func TestADryRunChangesNothing(t *testing.T) {
	v := newVersions(t,
		map[string]string{"a": "1", "b": "2"},
		map[string]string{"a": "3", "b": "2", "c": "4"})
	for _, form := range []string{"files", "blobs", "oci", "ollama"} {
		t.Run(form, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			n, said := v.fetched(2, dir, "--dry-run", "--into", form)
			assert.Zero(t, n)
			const plan = `would pull .* to .*/new: \d \w+, \d B \(0 B there already\)`
			assert.Regexp(t, plan+`\ndigest sha256:`, said)
			assert.NoDirExists(t, dir)

			v.fetched(1, dir, "--into", form)
			before, touched := everythingOf(t, dir), timesOf(t, dir)
			n, said = v.fetched(2, dir, "--dry-run", "--into", form)
			assert.Zero(t, n)
			assert.Equal(t, touched, timesOf(t, dir))
			assert.Regexp(t, `would pull .*: \d \w+, \d B \(\d B there already\)\n`, said)
			assert.Equal(t, before, everythingOf(t, dir))
			_, said = v.fetched(1, dir, "--dry-run", "--into", form)
			assert.Contains(t, said, ", all there already\n")
		})
	}
	made := tree(t, map[string]string{"a": "1", "z": "26"})
	r := must(t, "push", "--dry-run", made, v.ref(9))
	assert.Contains(t, r.stdout, "     2 B  z\n")
	assert.NotContains(t, r.stdout, " a\n")
	assert.Contains(t, r.stdout, "would push "+made+" to ")
	assert.Contains(t, r.stdout, ": 3 blobs, 5 B (3 B there already)\n", "two files and a config")
	assert.Equal(t, exitFailed, runWith(t, "inspect", v.ref(9)).code)
	target := startedServer(t).url + "/to/model:v1"
	r = must(t, "copy", "--dry-run", v.ref(2), target)
	assert.Contains(t, r.stdout, "would copy ")
	assert.Contains(t, r.stdout, "     1 B  c\n")
	assert.Equal(t, exitFailed, runWith(t, "inspect", target).code)
	r = must(t, "pull", "--dry-run", "--json", v.ref(2), filepath.Join(t.TempDir(), "new"))
	assert.Contains(t, r.stdout, `{"event":"missing","name":"c","bytes":1}`)
	assert.Regexp(t, `{"event":"planned","command":"pull",.*"missing":3}`, r.stdout)
}
