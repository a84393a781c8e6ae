package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// anyRegistry has whatever it was given, under whatever name, and takes whatever is sent.
type anyRegistry struct {
	url string

	mu    sync.Mutex // guards the fields that follow
	blobs map[string]string
	types map[string]string // of manifests
	sent  bytes.Buffer      // what clients have sent
}

func newAnyRegistry(t *testing.T) *anyRegistry {
	t.Helper()
	reg := &anyRegistry{blobs: map[string]string{}, types: map[string]string{}}
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	reg.url = server.URL
	return reg
}

func (reg *anyRegistry) put(content string) descriptor {
	dg := digest.FromString(content).String()
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.blobs[dg] = content
	return descriptor{MediaType: "application/octet-stream", Digest: dg, Size: int64(len(content))}
}

func (reg *anyRegistry) putManifest(data []byte, mediaType string) registry.Manifest {
	m := registry.NewManifest(data, mediaType)
	reg.put(string(data))
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.types[m.Digest] = mediaType
	return m
}

// model is an honest one of files.
func (reg *anyRegistry) model(files map[string]string) registry.Manifest {
	var layers []string
	for title, content := range files {
		d := reg.put(content)
		layers = append(layers, fmt.Sprintf(
			`{"mediaType":"a/b","digest":%q,"size":%d,"annotations":{"org.opencontainers.image.title":%q}}`,
			d.Digest, d.Size, title))
	}
	config := reg.put("{}")
	return reg.putManifest([]byte(fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[%s]}`,
		registry.MediaTypeManifest, config.Digest, strings.Join(layers, ","))), registry.MediaTypeManifest)
}

// ref names a manifest by a tag, which is the end of its digest.
func (reg *anyRegistry) ref(m registry.Manifest) string {
	return reg.url + "/evil/model:" + digest.Digest(m.Digest).Encoded()[:12]
}

// size is that of all blobs.
func (reg *anyRegistry) size() (size int64) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, content := range reg.blobs {
		size += int64(len(content))
	}
	return size
}

// saw tells whether a client has sent a text.
func (reg *anyRegistry) saw(text string) bool {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return bytes.Contains(reg.sent.Bytes(), []byte(text))
}

func (reg *anyRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	reg.mu.Lock()
	reg.sent.Write(body)
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	content, ok := reg.blobs[name]
	for dg, mediaType := range reg.types {
		if strings.HasPrefix(digest.Digest(dg).Encoded(), name) || dg == name {
			w.Header().Set("Content-Type", mediaType)
			w.Header().Set("Docker-Content-Digest", dg)
			content, ok = reg.blobs[dg], true
		}
	}
	reg.mu.Unlock()
	switch {
	case r.URL.Path == "/v2/":
	case r.Method == http.MethodPost:
		w.Header().Set("Location", r.URL.Path+"x")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut, r.Method == http.MethodPatch:
		w.Header().Set("Location", r.URL.Path)
		w.WriteHeader(http.StatusCreated)
	case !ok || r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/pushed/"):
		w.WriteHeader(http.StatusNotFound)
	default:
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	}
}

// titled is a layer of a name, as JSON.
func titled(d descriptor, title string) string {
	return fmt.Sprintf(`{"mediaType":"a/b","digest":%q,"size":%d,`+
		`"annotations":{"org.opencontainers.image.title":%q}}`, d.Digest, d.Size, title)
}

// of is a model of layers.
func (reg *anyRegistry) of(layers ...string) registry.Manifest {
	text := fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[%s]}`,
		registry.MediaTypeManifest, reg.put("{}").Digest, strings.Join(layers, ","))
	return reg.putManifest(text, registry.MediaTypeManifest)
}

// listed is the entry of a manifest in an index, as JSON.
func listed(m registry.Manifest) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, m.MediaType, m.Digest, len(m.Data))
}

// indexOf is an index that lists a manifest.
func indexOf(m registry.Manifest) registry.Manifest {
	return registry.NewManifest(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`,
		registry.MediaTypeIndex, listed(m)), "")
}
