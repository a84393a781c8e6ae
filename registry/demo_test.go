package registry_test

import (
	"encoding/json"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

// demo is what the examples run against: a registry with the model library/model:latest, which wants
// the password of ada for everything, and a directory.
type demo struct {
	*httptest.Server
	Dir    string
	Mirror *httptest.Server // has the same, and wants nothing
}

func newDemo() *demo {
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("REGISTRY_PASSWORD", "open sesame")
	reg := newDemoRegistry(registrytest.Options{
		Token: "token-of-ada",
		Before: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/token" {
				return false
			}
			if u, p, _ := r.BasicAuth(); u != "ada" || p != "open sesame" {
				w.WriteHeader(http.StatusUnauthorized)
			} else {
				_ = json.NewEncoder(w).Encode(map[string]string{"token": "token-of-ada"})
			}
			return true
		},
	})
	return &demo{
		Server: httptest.NewServer(reg), Dir: filepath.Join(dir, "model"),
		Mirror: httptest.NewServer(newDemoRegistry(registrytest.Options{})),
	}
}

// newDemoRegistry returns a registry with a model, also as the only manifest of an index.
func newDemoRegistry(opts registrytest.Options) *registrytest.Registry {
	reg := registrytest.New(opts)
	layer := func(content, title string) map[string]any {
		reg.Put("library/model", []byte(content))
		return descriptor(content, "application/octet-stream", title)
	}
	data, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeManifest, "config": layer("{}", ""),
		"layers": []any{layer("the weights", "model.gguf"), layer("the template", "template.txt")},
	})
	if err != nil {
		log.Fatal(err)
	}
	reg.PutManifest("library/model", "latest", registry.MediaTypeManifest, data)
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{map[string]any{
		"mediaType": registry.MediaTypeManifest, "digest": digest.FromBytes(data), "size": len(data),
		"platform": map[string]string{"os": "linux", "architecture": "amd64"},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	reg.PutManifest("library/model", "index", registry.MediaTypeIndex, index)
	return reg
}

// Close ends both servers and removes the directory.
func (d *demo) Close() {
	d.Server.Close()
	d.Mirror.Close()
	if err := os.RemoveAll(filepath.Dir(d.Dir)); err != nil {
		log.Fatal(err)
	}
}
