package programs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// manifestName is the file of a manifest beside its blobs.
const manifestName = "manifest.json"

// tinyBlob is the only blob of P1: 50 bytes.
const tinyBlob = `{"architecture":"amd64","os":"linux","config":{} }`

// Model is what `transfer demo` makes of its flags. The zero value is one blob of 50 bytes.
type Model struct {
	Size    string // of the big blob
	Tensors int    // number of small blobs
}

// modelFiles is a model in the two forms that programs take.
type modelFiles struct {
	dir    string // blobs and a manifest
	layout string // an OCI layout
}

// makeModel writes a model in both forms.
func makeModel(ctx context.Context, m Model, tools, dir string) (files modelFiles, err error) {
	files = modelFiles{dir: filepath.Join(dir, "model"), layout: filepath.Join(dir, "layout")}
	if m == (Model{}) {
		err = writeTiny(files.dir)
	} else {
		err = writeDemo(ctx, m, tools, dir)
	}
	if err != nil {
		return files, err
	}
	return files, writeLayout(files)
}

// writeDemo has the program make its demo model.
func writeDemo(ctx context.Context, m Model, tools, dir string) error {
	args := []string{"demo", "--size", m.Size, "--tensors", strconv.Itoa(m.Tensors), "--dir", dir}
	err := mustRun(exec.CommandContext(ctx, filepath.Join(tools, transferName), args...))
	for _, name := range []string{"pulled", "registry"} { // of the demo itself
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	return err
}

// writeTiny writes a manifest with one blob.
func writeTiny(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const manifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":` +
		`{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[]}`
	name := hexOf([]byte(tinyBlob))
	return errors.Join(
		write(dir, "sha256-"+name, []byte(tinyBlob)),
		write(dir, manifestName, fmt.Appendf(nil, manifest, name, len(tinyBlob))),
	)
}

// writeLayout makes an OCI layout of a model, whose blobs are links to the same files.
func writeLayout(m modelFiles) error {
	blobs := filepath.Join(m.layout, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(m.dir, "sha256-*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		name := strings.TrimPrefix(filepath.Base(f), "sha256-")
		if err := os.Link(f, filepath.Join(blobs, name)); err != nil {
			return err
		}
	}
	return writeIndex(m, blobs)
}

// writeIndex writes the manifest and what names it.
func writeIndex(m modelFiles, blobs string) error {
	manifest, err := os.ReadFile(filepath.Join(m.dir, manifestName))
	if err != nil {
		return err
	}
	var kind struct{ MediaType string }
	if err := json.Unmarshal(manifest, &kind); err != nil {
		return err
	}
	name := hexOf(manifest)
	const index = `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":"sha256:%s","size":%d,` +
		`"annotations":{"org.opencontainers.image.ref.name":%q}}]}`
	return errors.Join(
		write(blobs, name, manifest),
		write(m.layout, "index.json", fmt.Appendf(nil, index, kind.MediaType, name, len(manifest), tag)),
		write(m.layout, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)),
	)
}

func write(dir, name string, data []byte) error {
	return os.WriteFile(filepath.Join(dir, name), data, 0o644)
}

// hexOf is the SHA-256 of data in hexadecimal digits.
func hexOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
