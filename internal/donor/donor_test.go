package donor

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
)

func TestMain(m *testing.M) { registrytest.Main(m) }

// put writes a file, and returns its path.
func put(t *testing.T, data string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(data), 0o644))
	return path
}

func read(x *File, off int64) string {
	b := make([]byte, 3)
	n, _ := x.ReadAt(b, off)
	return string(b[:n])
}

func (f *Files) opened() (n int) {
	for _, x := range f.all {
		if x.file != nil {
			n++
		}
	}
	return n
}

// However many files there are, few are open, and none in the end.
func TestFewFilesAreOpen(t *testing.T) {
	var paths []string
	for range 3 * maxOpen {
		paths = append(paths, put(t, "abcdef"))
	}
	files := New(paths)
	for range 10 {
		var running sync.WaitGroup
		for range 4 * maxOpen {
			running.Go(func() {
				for _, i := range rand.Perm(len(paths)) {
					assert.Equal(t, "cde", read(files.All()[i], 2))
				}
			})
		}
		running.Wait()
		assert.LessOrEqual(t, files.opened(), maxOpen)
	}
	files.Close()
	assert.Zero(t, files.opened())
}

func TestFilesThatCannotBeRead(t *testing.T) {
	there := put(t, "abcdef")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(there, link))
	for _, path := range []string{"", "\x00", t.TempDir(), filepath.Join(there, "x"), link, os.DevNull} {
		x := New([]string{path}).All()[0]
		assert.Empty(t, read(x, 0), path)
		assert.Empty(t, x.Tensors())
		_, err := x.Open()
		assert.Error(t, err, path)
	}
}

// A file is read as it is now, its table as it was.
func TestFileThatIsReplaced(t *testing.T) {
	model := tensortest.File{Tensors: []tensortest.Tensor{{Name: "a", Size: 64}}}
	l := model.GGUF()
	path := put(t, string(model.Bytes(l, []uint64{1})))
	files := New([]string{path})
	x := files.All()[0]
	assert.Len(t, x.Tensors(), 1)
	require.NoError(t, os.WriteFile(path, []byte("other"), 0o644))
	assert.Equal(t, "oth", read(x, 0))
	assert.Len(t, x.Tensors(), 1)
	files.Close()
	require.NoError(t, os.Remove(path))
	assert.Empty(t, read(x, 0))
}
