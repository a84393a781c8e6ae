package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nlpodyssey/safetensors"
	"github.com/ollama/ollama/fs/ggml"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/tensorfile"
)

// weights returns the bytes of each tensor of a model of 34 MiB, by their names.
func weights() map[string][]byte {
	all := make(map[string][]byte)
	for i := range 17 {
		b := make([]byte, 2<<20)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(b)
		all[fmt.Sprintf("blk.%d.ffn_up.weight", i)] = b
	}
	all["output_norm.weight"] = []byte("norm") // which takes padding
	return all
}

// gguf is the file that Ollama makes of a model.
func gguf(t *testing.T, name string) []byte {
	t.Helper()
	tokens := make([]string, 10_000)
	for i := range tokens {
		tokens[i] = fmt.Sprint("token", i)
	}
	var tensors []*ggml.Tensor
	for name, b := range weights() {
		shape := []uint64{uint64(len(b)) / 4}
		tensors = append(tensors, &ggml.Tensor{Name: name, Shape: shape, WriterTo: bytes.NewReader(b)})
	}
	path := filepath.Join(t.TempDir(), "gguf")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, ggml.WriteGGUF(f, ggml.KV{
		"general.architecture": "llama", "general.name": name, "tokenizer.ggml.tokens": tokens,
		"llama.block_count": uint32(17), "llama.rope.freq_base": float32(10000),
	}, tensors))
	require.NoError(t, f.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

// safetensorsOf is the file that another library makes of a model.
func safetensorsOf(t *testing.T, name string) []byte {
	t.Helper()
	views := make(map[string]safetensors.TensorView)
	for name, b := range weights() {
		v, err := safetensors.NewTensorView(safetensors.F32, []uint64{1, uint64(len(b)) / 4}, b)
		require.NoError(t, err)
		views[name] = v
	}
	data, err := safetensors.Serialize(views, map[string]string{"name": name})
	require.NoError(t, err)
	return data
}

// Files that the programs of others make are read as they are meant, and updated.
func TestFilesOfOtherPrograms(t *testing.T) {
	formats := map[string]func(*testing.T, string) []byte{"GGUF": gguf, "safetensors": safetensorsOf}
	for name, file := range formats {
		t.Run(name, func(t *testing.T) {
			older, newer := file(t, "one"), file(t, "another name, which is longer")
			tensors, err := tensorfile.Read(bytes.NewReader(newer), int64(len(newer)), int64(len(newer)))
			require.NoError(t, err)
			require.Len(t, tensors, len(weights()))
			for _, x := range tensors {
				assert.True(t, bytes.HasPrefix(newer[x.Start:x.End], weights()[x.Name]), x.Name)
			}
			sent := updateTo(t, newer, older)
			assert.Less(t, sent, int64(len(newer)/50), "of %d", len(newer))
		})
	}
}

// shipped returns files of a module that is used for nothing else. The checksum database vouches for them.
func shipped(t *testing.T, module, dir string, names ...string) (files [][]byte) {
	t.Helper()
	c := exec.Command("go", "mod", "download", "-json", module)
	c.Dir = t.TempDir() // no module's
	out, err := c.Output()
	require.NoError(t, err, "%s", out)
	var downloaded struct{ Dir string }
	require.NoError(t, json.Unmarshal(out, &downloaded))
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(downloaded.Dir, dir, name))
		require.NoError(t, err)
		files = append(files, data)
	}
	return files
}

// The files with which another program tests itself: one GGUF whole, and the same in parts, of which the
// second has the tensors at other offsets. The last tensor gets as many bytes as make the file worth an
// update.
func TestFilesOfAnotherProgramsTests(t *testing.T) {
	files := shipped(t, "github.com/docker/model-runner@v1.0.10", "pkg/distribution/assets",
		"dummy.gguf", "dummy-00002-of-00002.gguf", "dummy-00001-of-00002.gguf")
	bytesOf := func(data []byte) map[string]string {
		tensors, err := tensorfile.Read(bytes.NewReader(data), int64(len(data)), int64(len(data)))
		require.NoError(t, err)
		all := make(map[string]string)
		for _, x := range tensors {
			all[x.Name+" "+x.Kind] = string(data[x.Start:x.End])
		}
		return all
	}
	whole, part := files[0], files[1]
	assert.Len(t, bytesOf(whole), 10)
	assert.Equal(t, bytesOf(whole), bytesOf(part))
	_, err := tensorfile.Read(bytes.NewReader(files[2]), int64(len(files[2])), int64(len(files[2])))
	require.ErrorIs(t, err, tensorfile.ErrNone, "the first part has no tensors")

	more := make([]byte, 34<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(more)
	sent := updateTo(t, append(whole, more...), append(part, more...))
	assert.Less(t, sent, int64(len(more)/50))
}

// updateTo pulls a blob beside an older version, and returns how many bytes were sent.
func updateTo(t *testing.T, newer, older []byte) int64 {
	t.Helper()
	old := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.WriteFile(old, older, 0o644))
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(counting{w, &sent}, r, "", time.Time{}, bytes.NewReader(newer))
	}))
	defer server.Close()
	dg := digest.FromBytes(newer)
	dir := t.TempDir()
	require.NoError(t, transfer.Download(t.Context(), transfer.DownloadOptions{
		Blobs:   []transfer.Blob{{Digest: dg.String(), Size: int64(len(newer))}},
		BaseURL: server.URL, DestDir: dir, Reuse: []string{old},
	}))
	got, err := os.ReadFile(filepath.Join(dir, "sha256-"+dg.Encoded()))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(newer, got))
	return sent.Load()
}

// counting counts the bytes of bodies.
type counting struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.sent.Add(int64(n))
	return n, err
}
