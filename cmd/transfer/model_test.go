package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/modeltransfer/transfer/model"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func makeModel(t *testing.T, m demoModel) (string, *manifest) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, m.write(t.Context(), dir))
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	require.NoError(t, err)
	parsed := new(manifest)
	require.NoError(t, json.Unmarshal(data, parsed))
	return dir, parsed
}

// blobs lists the config and the layers of a model that was made, each digest once.
func (m *manifest) blobs() []model.File {
	var blobs []model.File
	for _, d := range append([]descriptor{m.Config}, m.Layers...) {
		if b := (model.File{Digest: d.Digest, Size: d.Size}); !slices.Contains(blobs, b) {
			blobs = append(blobs, b)
		}
	}
	return blobs
}

func blobPath(dir, dg string) string { return filepath.Join(dir, blobFile(dg)) }

func TestEachBlobOfAModelIsWhatTheManifestSays(t *testing.T) {
	dir, m := makeModel(t, demoModel{tensors: 9, size: 100_001, seed: 1})
	require.Len(t, m.blobs(), 11)
	for _, b := range m.blobs() {
		data, err := os.ReadFile(blobPath(dir, b.Digest))
		require.NoError(t, err)
		assert.EqualValues(t, b.Size, len(data))
		assert.Equal(t, b.Digest, digest.FromBytes(data).String())
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 12)
}

func TestTensorsAreSafetensorsFiles(t *testing.T) {
	dir, m := makeModel(t, demoModel{tensors: 9, seed: 1})
	assert.Equal(t, dockerManifest, m.MediaType)
	assert.Equal(t, dockerConfig, m.Config.MediaType)
	require.Len(t, m.Layers, 9)
	names := make(map[string]bool)
	for _, l := range m.Layers {
		assert.Equal(t, tensorMediaType, l.MediaType)
		names[l.Name] = true
		data, err := os.ReadFile(blobPath(dir, l.Digest))
		require.NoError(t, err)
		checkSafetensors(t, data, l.Name)
	}
	assert.Len(t, names, 9)
}

func checkSafetensors(t *testing.T, data []byte, name string) {
	t.Helper()
	length := binary.LittleEndian.Uint64(data)
	assert.Zero(t, length%8)
	var header map[string]struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	require.NoError(t, json.Unmarshal(data[8:8+length], &header))
	require.Len(t, header, 1)
	tensor := header[name]
	assert.Equal(t, "BF16", tensor.DType)
	require.Len(t, tensor.Shape, 2)
	content := len(data) - 8 - int(length)
	assert.Equal(t, [2]int{0, content}, tensor.Offsets)
	assert.Equal(t, content, tensor.Shape[0]*tensor.Shape[1]*2)
}

func TestTheBigBlobIsAGGUFFile(t *testing.T) {
	for _, size := range []int64{minBlob, 4097, 100_000} {
		dir, m := makeModel(t, demoModel{size: size, seed: 1})
		require.Len(t, m.Layers, 1)
		assert.Equal(t, modelMediaType, m.Layers[0].MediaType)
		data, err := os.ReadFile(blobPath(dir, m.Layers[0].Digest))
		require.NoError(t, err)
		require.EqualValues(t, size, len(data))
		checkGGUF(t, data)
	}
}

func checkGGUF(t *testing.T, data []byte) {
	t.Helper()
	r := bytes.NewReader(data)
	read := func(v any) { require.NoError(t, binary.Read(r, binary.LittleEndian, v)) }
	number := func() (n uint32) { read(&n); return n }
	long := func() (n uint64) { read(&n); return n }
	text := func() string { b := make([]byte, long()); read(b); return string(b) }

	magic := make([]byte, 4)
	read(magic)
	assert.Equal(t, "GGUF", string(magic))
	assert.EqualValues(t, 3, number())
	assert.EqualValues(t, 1, long(), "tensors")
	assert.EqualValues(t, 2, long(), "metadata")
	assert.Equal(t, "general.architecture", text())
	assert.EqualValues(t, 8, number())
	assert.Equal(t, "demo", text())
	assert.Equal(t, "general.alignment", text())
	assert.EqualValues(t, 4, number())
	assert.EqualValues(t, 32, number())
	assert.Equal(t, "token_embd.weight", text())
	assert.EqualValues(t, 1, number(), "dimensions")
	elements := long()
	assert.EqualValues(t, 24, number(), "I8")
	assert.Zero(t, long(), "offset")
	start := (len(data) - r.Len() + 31) / 32 * 32
	assert.EqualValues(t, len(data)-start, elements)
}

func TestAModelDependsOnItsSeedAlone(t *testing.T) {
	_, a := makeModel(t, demoModel{tensors: 3, size: 1000, seed: 1})
	_, b := makeModel(t, demoModel{tensors: 3, size: 1000, seed: 1})
	_, c := makeModel(t, demoModel{tensors: 3, size: 1000, seed: 2})
	assert.Equal(t, a, b)
	assert.NotEqual(t, a.Layers, c.Layers)
}

func TestMakingAModelEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	require.ErrorIs(t, demoModel{tensors: 1, size: 1 << 40}.write(ctx, dir), context.Canceled)
	left, err := filepath.Glob(filepath.Join(dir, ".blob-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestADifferenceIsFound(t *testing.T) {
	made, m := makeModel(t, demoModel{tensors: 1, size: 3 * copyBuffer, seed: 1})
	require.NoError(t, compare(t.Context(), made, made, m.blobs()))
	big := blobPath("", m.Layers[1].Digest)
	data, err := os.ReadFile(filepath.Join(made, big))
	require.NoError(t, err)
	for name, wrong := range map[string][]byte{
		"a byte": append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1),
		"short":  data[:copyBuffer],
		"long":   append(bytes.Clone(data), 0),
	} {
		t.Run(name, func(t *testing.T) {
			pulled := t.TempDir()
			require.NoError(t, os.CopyFS(pulled, os.DirFS(made)))
			require.NoError(t, os.WriteFile(filepath.Join(pulled, big), wrong, 0o600))
			require.ErrorIs(t, compare(t.Context(), made, pulled, m.blobs()), errDifferent)
			require.NoError(t, os.WriteFile(filepath.Join(made, big), wrong, 0o600))
			require.ErrorIs(t, compare(t.Context(), made, pulled, m.blobs()), errDifferent)
			require.NoError(t, os.WriteFile(filepath.Join(made, big), data, 0o600))
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, compare(ctx, made, made, m.blobs()), context.Canceled)
}
