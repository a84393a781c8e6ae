package unpack_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Where no lock can be had, several pulls may write one file. None fails or disturbs another, and the file is
// whole at all times.
func TestL3OneFileIsWrittenBySeveral(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "manifest.json")
	var writers sync.WaitGroup
	for _, letter := range []string{"a", "b", "c", "d"} {
		content := strings.Repeat(letter, 100_000)
		writers.Go(func() {
			for range 25 {
				assert.NoError(t, unpack.WriteFile(name, []byte(content)))
				data, err := os.ReadFile(name)
				assert.NoError(t, err)
				assert.Equal(t, strings.Repeat(string(data[:1]), 100_000), string(data))
			}
		})
	}
	writers.Wait()
	assert.Equal(t, []string{"manifest.json"}, filesIn(t, dir))
}

// What a pull has left that was killed is replaced, and what another is writing is left alone.
func TestL3TemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	name, temporary := filepath.Join(dir, "x"), filepath.Join(dir, ".transfer.x.new")
	require.NoError(t, os.WriteFile(temporary, []byte("other"), 0o644))
	require.NoError(t, unpack.WriteFile(name, []byte("whole")))
	assert.Equal(t, []string{".transfer.x.new", "x"}, filesIn(t, dir))
	before := time.Now().Add(-time.Minute)
	require.NoError(t, os.Chtimes(temporary, before, before))
	require.NoError(t, unpack.WriteFile(name, []byte("whole")))
	assert.Equal(t, []string{"x"}, filesIn(t, dir))
}

func filesIn(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
