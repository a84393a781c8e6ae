package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	tensorMediaType = "application/vnd.ollama.image.tensor"
	modelMediaType  = "application/vnd.ollama.image.model"
	dockerManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig    = "application/vnd.docker.container.image.v1+json"

	bytesPerBF16 = 2
	copyBuffer   = 256 << 10 // 256 KiB

	// minBlob is the least size of the big blob: its header must fit.
	minBlob = 512
)

// descriptor points to a blob of a manifest that is made here. Ollama names tensors in it.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	Name      string `json:"name,omitempty"`
}

// manifest is a manifest that is made here.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// projections are the weights of one layer, by their usual names.
var projections = [...]string{
	"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
	"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
}

// demoModel is a model to be made: many small tensors and one big blob, of content
// that depends on the seed alone.
type demoModel struct {
	tensors int
	size    int64 // of the big blob; 0 for none
	seed    uint64
}

// write makes the model's blobs and its manifest in dir.
func (m demoModel) write(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	layers := make([]descriptor, 0, m.tensors+1)
	for i := range m.tensors {
		d, err := m.writeTensor(ctx, dir, i)
		if err != nil {
			return err
		}
		layers = append(layers, d)
	}
	if m.size > 0 {
		d, err := m.writeBlob(ctx, dir, ggufHeader(m.size), m.size, m.random(-1))
		if err != nil {
			return err
		}
		d.MediaType = modelMediaType
		layers = append(layers, d)
	}
	return m.writeManifest(ctx, dir, layers)
}

// random returns the content of tensor i, or of the big blob for -1.
func (m demoModel) random(i int) *rand.ChaCha8 {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], m.seed)
	binary.LittleEndian.PutUint64(seed[8:], uint64(i))
	return rand.NewChaCha8(seed)
}

func (m demoModel) writeTensor(ctx context.Context, dir string, i int) (descriptor, error) {
	content := m.random(i)
	rng := rand.New(content)
	rows, columns := 64*(1+rng.IntN(8)), 64*(1+rng.IntN(8))
	name := fmt.Sprintf("model.layers.%d.%s.weight", i/len(projections), projections[i%len(projections)])
	header, err := safetensorsHeader(name, rows, columns)
	if err != nil {
		return descriptor{}, err
	}
	d, err := m.writeBlob(ctx, dir, header, int64(len(header)+rows*columns*bytesPerBF16), content)
	d.MediaType, d.Name = tensorMediaType, name
	return d, err
}

// safetensorsHeader is the part of a safetensors file before the data: the
// length of a JSON text in 8 bytes, and the text, padded so that the data is aligned.
func safetensorsHeader(name string, rows, columns int) ([]byte, error) {
	text, err := json.Marshal(map[string]any{name: map[string]any{
		"dtype": "BF16", "shape": []int{rows, columns},
		"data_offsets": []int{0, rows * columns * bytesPerBF16},
	}})
	if err != nil {
		return nil, err
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), nil
}

// ggufHeader is the part of a GGUF file (version 3) of the given size before the
// data, for one tensor of 8-bit integers that fills the rest.
func ggufHeader(size int64) []byte {
	const (
		typeUint32, typeString = 4, 8
		typeI8                 = 24
		alignment              = 32
	)
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(b, 1) // tensors
	b = le.AppendUint64(b, 2) // pairs of metadata
	b = le.AppendUint32(text(b, "general.architecture"), typeString)
	b = text(b, "demo")
	b = le.AppendUint32(text(b, "general.alignment"), typeUint32)
	b = le.AppendUint32(b, alignment)
	b = le.AppendUint32(text(b, "token_embd.weight"), 1) // dimensions
	elements := len(b)
	b = le.AppendUint64(b, 0) // filled in below
	b = le.AppendUint32(b, typeI8)
	b = le.AppendUint64(b, 0) // offset
	for len(b)%alignment != 0 {
		b = append(b, 0)
	}
	le.PutUint64(b[elements:], uint64(size-int64(len(b))))
	return b
}

func (m demoModel) writeManifest(ctx context.Context, dir string, layers []descriptor) error {
	digests := make([]string, len(layers))
	for i, l := range layers {
		digests[i] = l.Digest
	}
	config, err := json.Marshal(map[string]any{
		"model_format": "safetensors", "model_family": "demo", "architecture": "amd64", "os": "linux",
		"rootfs": map[string]any{"type": "layers", "diff_ids": digests},
	})
	if err != nil {
		return err
	}
	d, err := m.writeBlob(ctx, dir, config, int64(len(config)), bytes.NewReader(nil))
	if err != nil {
		return err
	}
	d.MediaType = dockerConfig
	data, err := json.Marshal(
		manifest{SchemaVersion: 2, MediaType: dockerManifest, Config: d, Layers: layers},
	)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "manifest.json"), data, 0o666)
}

// writeBlob writes a blob of the given size, header first, under the name of its
// digest. On failure nothing is left.
func (m demoModel) writeBlob(
	ctx context.Context, dir string, header []byte, size int64, content io.Reader,
) (d descriptor, err error) {
	f, err := os.CreateTemp(dir, ".blob-*")
	if err != nil {
		return d, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	sum := sha256.New()
	body := io.LimitReader(io.MultiReader(bytes.NewReader(header), content), size)
	if err = copyHashed(ctx, f, sum, body); err != nil {
		_ = f.Close()
		return d, err
	}
	if err = f.Close(); err != nil {
		return d, err
	}
	hexSum := hex.EncodeToString(sum.Sum(nil))
	d = descriptor{Digest: "sha256:" + hexSum, Size: size}
	return d, os.Rename(f.Name(), filepath.Join(dir, "sha256-"+hexSum))
}

// copyHashed copies until the end or until the context is done.
func copyHashed(ctx context.Context, w io.Writer, sum hash.Hash, r io.Reader) error {
	buffer, both := make([]byte, copyBuffer), io.MultiWriter(w, sum)
	for {
		n, err := r.Read(buffer)
		if _, failed := both.Write(buffer[:n]); failed != nil {
			return failed
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}
