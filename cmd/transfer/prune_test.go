package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPruneRemovesOnlyWhatNothingNeeds(t *testing.T) {
	_, dirs := forms(t)
	junk := strings.Repeat("0", 64)
	for form, left := range map[string][]string{
		"files":  {stateDir + "/sha256-" + junk + ".partial", stateDir + "/sha256-" + junk},
		"blobs":  {"sha256-" + junk, "sha256-" + junk + ".partial", "sha256-" + junk + ".journal"},
		"oci":    {"blobs/sha256/" + junk, stateDir + "/sha256-" + junk + ".partial"},
		"ollama": {"blobs/sha256-" + junk, "blobs/sha256-" + junk + ".partial-abc"},
	} {
		t.Run(form, func(t *testing.T) {
			dir := dirs[form]
			want := filesOf(t, dir)
			for _, name := range append(left, "notes.txt") {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("12345"), 0o600))
			}
			want["notes.txt"] = "12345"
			r := must(t, "prune", "--dry-run", dir)
			assert.Contains(t, r.stdout, "would remove "+plural(len(left), "file"))
			assert.FileExists(t, filepath.Join(dir, left[0]))
			r = must(t, "prune", dir)
			assert.Contains(t, r.stdout, "removed "+plural(len(left), "file"))
			assert.Equal(t, want, filesOf(t, dir))
			for _, name := range left {
				assert.NoFileExists(t, filepath.Join(dir, name))
			}
			must(t, "verify", dir)
		})
	}
}

// People keep their models on another disk, behind a link.
func TestPruneGoesThroughLinksToItsDirectories(t *testing.T) {
	_, dirs := forms(t)
	junk := "sha256-" + strings.Repeat("0", 64)
	links := t.TempDir()
	linked := filepath.Join(links, "blobs")
	link(t, dirs["blobs"], linked)
	elsewhere := filepath.Join(links, "elsewhere")
	require.NoError(t, os.Rename(filepath.Join(dirs["ollama"], "blobs"), elsewhere))
	link(t, elsewhere, filepath.Join(dirs["ollama"], "blobs"))
	for dir, place := range map[string]string{linked: dirs["blobs"], dirs["ollama"]: elsewhere} {
		want := filesOf(t, place)
		require.NoError(t, os.WriteFile(filepath.Join(place, junk), nil, 0o600))
		assert.Contains(t, must(t, "prune", dir).stdout, "removed 1 file")
		assert.Equal(t, want, filesOf(t, place))
	}
}

// link makes a symbolic link, or skips the test where nobody may.
func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Skip(err)
	}
}

func TestPruneSaysWhereThereIsNothingOfAPull(t *testing.T) {
	for _, args := range [][]string{{"prune"}, {"prune", "--dry-run"}} {
		empty := t.TempDir()
		r := must(t, append(args, empty)...)
		assert.Equal(t, empty+" is empty: there is nothing of a pull in it\n", r.stdout)
		r = runWith(t, append(args, tree(t, map[string]string{"notes.txt": "mine"}))...)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.stderr, "was not made by pull")
	}
	r := runWith(t, "verify", t.TempDir())
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, ": there is nothing in it to verify\n")
}

func TestPruneRemovesNothingWhereAManifestIsDamaged(t *testing.T) {
	_, dirs := forms(t)
	index, err := os.ReadFile(filepath.Join(dirs["oci"], "index.json"))
	require.NoError(t, err)
	_, digest, _ := strings.Cut(string(index), "sha256:")
	require.NoError(t, os.Remove(filepath.Join(dirs["oci"], "blobs", "sha256", digest[:64])))
	want := filesOf(t, dirs["oci"])
	r := runWith(t, "prune", dirs["oci"])
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "it is not known which blobs are needed")
	assert.Equal(t, want, filesOf(t, dirs["oci"]))
}
