package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forms are the directories that pull makes of one model, and where in them its largest file is.
func forms(t *testing.T) (ref string, dirs map[string]string) {
	t.Helper()
	made := tree(t, someFiles)
	ref = startedServer(t).url + "/me/model:v1"
	must(t, "push", made, ref)
	dirs = map[string]string{}
	for _, form := range []string{"files", "blobs", "oci", "ollama"} {
		dirs[form] = t.TempDir()
		must(t, "pull", "--into", form, ref, dirs[form])
	}
	return ref, dirs
}

// largest is the path of the largest file below a directory.
func largest(t *testing.T, dir string) string {
	t.Helper()
	files := filesOf(t, dir)
	name := slices.MaxFunc(
		slices.Collect(maps.Keys(files)),
		func(a, b string) int { return len(files[a]) - len(files[b]) },
	)
	return filepath.Join(dir, name)
}

func TestVerifyFindsAndRepairsDamageInEachForm(t *testing.T) {
	ref, dirs := forms(t)
	for form, dir := range dirs {
		t.Run(form, func(t *testing.T) {
			assert.Contains(t, must(t, "verify", dir).stdout, "all right")
			want, path := filesOf(t, dir), largest(t, dir)
			info, err := os.Stat(path)
			require.NoError(t, err)
			for damage, apply := range map[string]func() error{
				"does not match": func() error {
					return os.WriteFile(path, make([]byte, info.Size()), 0o600)
				},
				"bytes":   func() error { return os.WriteFile(path, []byte("short"), 0o600) },
				"missing": func() error { return os.Remove(path) },
			} {
				require.NoError(t, apply())
				r := runWith(t, "verify", dir)
				assert.Equal(t, exitFailed, r.code)
				assert.Contains(t, r.stdout, damage)
				assert.Contains(t, r.stderr, "hint: repair it with: transfer verify "+dir+" --from ")
				assert.Contains(t, must(t, "verify", dir, "--from", ref).stdout, "repaired 1 of ")
				assert.Equal(t, want, filesOf(t, dir))
			}
			assert.Contains(t, must(t, "verify", dir).stdout, "all right")
		})
	}
}

func TestVerifyNeedsAPulledDirectory(t *testing.T) {
	r := runWith(t, "verify", tree(t, map[string]string{"a": "b"}))
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "was not made by pull")
	assert.NotContains(t, r.stderr, "file does not exist")
}
