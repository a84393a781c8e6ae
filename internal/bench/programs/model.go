package programs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// makeModel writes the model of a workload in both forms.
func makeModel(ctx context.Context, o options, workload, dir string) (m modelFiles, err error) {
	m = modelFiles{dir: filepath.Join(dir, "model"), layout: filepath.Join(dir, "layout")}
	if workload == "P1" {
		err = writeTiny(m.dir)
	} else {
		err = writeDemo(ctx, o, dir)
	}
	if err != nil {
		return m, err
	}
	return m, writeLayout(m)
}

// writeDemo has the program make its demo model.
func writeDemo(ctx context.Context, o options, dir string) error {
	binary, err := o.find(transferName)
	if err != nil {
		return err
	}
	args := []string{"demo", "--size", o.size, "--tensors", strconv.Itoa(o.tensors), "--dir", dir}
	if err := mustRun(exec.CommandContext(ctx, binary, args...)); err != nil {
		return err
	}
	for _, name := range []string{"pulled", "registry"} { // of the demo itself
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// writeTiny writes a manifest with one blob.
func writeTiny(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(tinyBlob))
	name := hex.EncodeToString(sum[:])
	blob := map[string]any{
		"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + name, "size": len(tinyBlob),
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": ociManifest, "config": blob, "layers": []any{},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "sha256-"+name), []byte(tinyBlob), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, manifestName), manifest, 0o644)
}

// writeLayout makes an OCI layout of a model, whose blobs are links to the same files.
func writeLayout(m modelFiles) error {
	blobs := filepath.Join(m.layout, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	files, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if name, ok := strings.CutPrefix(f.Name(), "sha256-"); ok {
			if err := os.Link(filepath.Join(m.dir, f.Name()), filepath.Join(blobs, name)); err != nil {
				return err
			}
		}
	}
	manifest, err := os.ReadFile(filepath.Join(m.dir, manifestName))
	if err != nil {
		return err
	}
	var kind struct{ MediaType string }
	if err := json.Unmarshal(manifest, &kind); err != nil {
		return err
	}
	sum := sha256.Sum256(manifest)
	name := hex.EncodeToString(sum[:])
	const index = `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":"sha256:%s","size":%d,` +
		`"annotations":{"org.opencontainers.image.ref.name":%q}}]}`
	for path, data := range map[string][]byte{
		filepath.Join(blobs, name):            manifest,
		filepath.Join(m.layout, "index.json"): fmt.Appendf(nil, index, kind.MediaType, name, len(manifest), tag),
		filepath.Join(m.layout, "oci-layout"): []byte(`{"imageLayoutVersion":"1.0.0"}`),
	} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
