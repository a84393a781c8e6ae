//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
)

// gguf is a model of 34 MiB, whose versions differ in the template and in one of 68 tensors.
func gguf(version int) map[string]string {
	f := tensortest.File{Metadata: []string{"tokenizer.chat_template", strings.Repeat("x", 100*version)}}
	seeds := make([]uint64, 68)
	for i := range seeds {
		f.Tensors = append(f.Tensors, tensortest.Tensor{
			Name: fmt.Sprintf("blk.%d.weight", i), Type: 1, Shape: []uint64{512, 512}, Size: 512 << 10,
		})
		seeds[i] = uint64(i)
	}
	seeds[20] += uint64(1000 * version)
	return map[string]string{"model.gguf": string(f.Bytes(f.GGUF(), seeds)), "config.json": "{}"}
}

func TestPullFetchesWhatHasChanged(t *testing.T) {
	v := newVersions(t, gguf(1), gguf(2))
	const most = 2 << 20
	for _, form := range []string{"files", "blobs", "oci", "ollama"} {
		t.Run(form, func(t *testing.T) {
			dir := t.TempDir()
			bytes, said := v.fetched(1, dir, "--into", form)
			assert.Greater(t, bytes, int64(34<<20))
			assert.NotContains(t, said, "reused")
			bytes, said = v.fetched(2, dir, "--into", form)
			assert.Less(t, bytes, int64(most))
			assert.Regexp(t, `: 2 \S+, 36 MB \(.*35 MB reused\) in `, said)
			must(t, "verify", dir)
		})
	}
	t.Run("another place", func(t *testing.T) {
		file := filepath.Join(tree(t, gguf(1)), "model.gguf")
		for _, path := range []string{file, filepath.Dir(file)} {
			dir := t.TempDir()
			bytes, said := v.fetched(2, dir, "--reuse", path, "--reuse", t.TempDir(), "--json")
			assert.Less(t, bytes, int64(most))
			assert.Regexp(t, `"reused":3\d{7},`, said)
			got, err := os.ReadFile(filepath.Join(dir, "model.gguf"))
			require.NoError(t, err)
			assert.Equal(t, gguf(2)["model.gguf"], string(got))
		}
	})
}

func TestPullSaysThatAFileToReuseIsMissing(t *testing.T) {
	v := newVersions(t, gguf(1))
	dir, before := filepath.Join(t.TempDir(), "model"), v.front.moved.Load()
	r := runWith(t, "pull", v.ref(1), dir, "--reuse", "nowhere/older.gguf")
	assert.NotZero(t, r.code)
	assert.Contains(t, r.stderr, "to reuse: stat nowhere/older.gguf: no such file or directory")
	assert.Equal(t, before, v.front.moved.Load())
	assert.NoDirExists(t, dir)
}

func TestAnOutcomeSaysWhatWasReused(t *testing.T) {
	o := outcome{blobs: 3, total: 5000, moved: 100, reuse: 4900, took: 2 * time.Second}
	assert.Equal(t, "3 blobs, 5.0 kB (4.9 kB reused) in 2.0 s, 50 B/s", o.String())
	o.there, o.reuse = 1000, 3900
	assert.Equal(t, "3 blobs, 5.0 kB (1.0 kB there already, 3.9 kB reused) in 2.0 s, 50 B/s", o.String())
	o.moved, o.reuse = 0, 4000
	assert.Equal(t, "3 blobs, 5.0 kB (1.0 kB there already, 4.0 kB reused) in 2.0 s, 0 B/s", o.String())
}
