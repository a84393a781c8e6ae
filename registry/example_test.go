package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
)

// A program that pulls a model from a registry that wants a password, with a progress line.
func Example() {
	demo := newDemo() // instead of https://registry.example
	defer demo.Close()

	repo, err := registry.Open(registry.Options{
		BaseURL: demo.URL, Repository: "library/model",
		Credentials: registry.Credentials{Username: "ada", Password: os.Getenv("REGISTRY_PASSWORD")},
	})
	if err != nil {
		log.Fatal(err)
	}
	manifest, err := repo.Pull(context.Background(), "latest", demo.Dir, func(completed, total int64) {
		fmt.Fprintf(os.Stderr, "\r%d of %d bytes", completed, total)
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("pulled", manifest.Digest)
	// Output: pulled sha256:74792dd64cf6e50b3f48254db12c46b338314604a1dcb1e8bad5e43e4d659891
}

// Options of the download that Pull has not are set in the longer way.
func ExampleRepository_DownloadOptions() {
	demo := newDemo()
	defer demo.Close()
	repo := openDemo(demo)

	ctx := context.Background()
	manifest, err := repo.Manifest(ctx, "latest")
	if err != nil {
		log.Fatal(err)
	}
	opts := repo.DownloadOptions()
	opts.DestDir = demo.Dir
	opts.MaxBytesPerSecond = 10 << 20 // 10 MiB/s
	if opts.Blobs, err = manifest.Blobs(); err != nil {
		log.Fatal(err)
	}
	if err := transfer.Download(ctx, opts); err != nil {
		log.Fatal(err)
	}
	content, err := manifest.Content()
	if err != nil {
		log.Fatal(err)
	}
	for _, layer := range content.Layers {
		fmt.Println(layer.Title(), layer.Size)
	}
	// Output:
	// model.gguf 11
	// template.txt 12
}

// openDemo opens the repository of the demo.
func openDemo(demo *demo) *registry.Repository {
	repo, err := registry.Open(registry.Options{
		BaseURL: demo.URL, Repository: "library/model",
		Credentials: registry.Credentials{Username: "ada", Password: os.Getenv("REGISTRY_PASSWORD")},
	})
	if err != nil {
		log.Fatal(err)
	}
	return repo
}

// Pushing files: each becomes a blob in a directory, called by its digest, and a layer of a manifest,
// with its name as the title.
func ExampleRepository_UploadOptions() {
	demo := newDemo()
	defer demo.Close()
	repo := openDemo(demo)

	type layer struct {
		MediaType   string            `json:"mediaType"`
		Digest      digest.Digest     `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	if err := os.MkdirAll(demo.Dir, 0o777); err != nil {
		log.Fatal(err)
	}
	store := func(mediaType, title string, data []byte) layer {
		d := digest.FromBytes(data)
		name := strings.Replace(d.String(), ":", "-", 1)
		if err := os.WriteFile(filepath.Join(demo.Dir, name), data, 0o666); err != nil {
			log.Fatal(err)
		}
		return layer{mediaType, d, len(data), map[string]string{"org.opencontainers.image.title": title}}
	}
	data, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     registry.MediaTypeManifest,
		"artifactType":  "application/vnd.example.model",
		"config":        store("application/vnd.oci.empty.v1+json", "", []byte("{}")),
		"layers": []layer{
			store("application/octet-stream", "README.md", []byte("# A model\n")),
			store("application/octet-stream", "config.json", []byte(`{"layers": 32}`)),
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	manifest := registry.NewManifest(data, registry.MediaTypeManifest)
	opts := repo.UploadOptions()
	opts.SrcDir, opts.Manifest, opts.ManifestRef = demo.Dir, manifest.Data, "v1"
	if opts.Blobs, err = manifest.Blobs(); err != nil {
		log.Fatal(err)
	}
	if err := transfer.Upload(context.Background(), opts); err != nil {
		log.Fatal(err)
	}
	tags, err := repo.Tags(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("pushed", manifest.Digest)
	fmt.Println("tags:", tags)
	// Output:
	// pushed sha256:25516e5032f7ef14d9d351a78142ea2a95104f60c9632c84e39a6e5ebba65991
	// tags: [index latest v1]
}

// tracer counts requests. One that makes spans of them looks the same.
type tracer struct {
	next     http.RoundTripper
	requests atomic.Int64
}

func (t *tracer) RoundTrip(r *http.Request) (*http.Response, error) {
	t.requests.Add(1)
	return t.next.RoundTrip(r)
}

// A client of one's own sees every request: those for tokens and manifests, and those of Download.
func Example_tracing() {
	demo := newDemo()
	defer demo.Close()

	traced := &tracer{next: http.DefaultTransport}
	repo, err := registry.Open(registry.Options{
		BaseURL: demo.URL, Repository: "library/model", Client: &http.Client{Transport: traced},
		Credentials: registry.Credentials{Username: "ada", Password: os.Getenv("REGISTRY_PASSWORD")},
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := repo.Pull(context.Background(), "latest", demo.Dir, nil); err != nil {
		log.Fatal(err)
	}
	// One without a token, one for a token, one for the manifest, and one for each blob.
	fmt.Println(traced.requests.Load(), "requests")
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	// Output: 6 requests
}

// Mirrors are asked first, and need neither trust nor credentials. What they lack comes from the registry.
func Example_mirrors() {
	demo := newDemo()
	defer demo.Close()

	repo, err := registry.Open(registry.Options{
		BaseURL: demo.URL, Repository: "library/model",
		Mirrors: []string{"http://127.0.0.1:1", demo.Mirror.URL}, // the first is down
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := repo.Pull(context.Background(), "latest", demo.Dir, nil); err != nil {
		log.Fatal(err)
	}
	files, err := os.ReadDir(demo.Dir)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(files), "blobs")
	// Output: 3 blobs
}

// A progress bar.
func Example_progressBar() {
	demo := newDemo()
	defer demo.Close()

	const width = 20
	line := ""
	_, err := openDemo(demo).Pull(context.Background(), "latest", demo.Dir, func(completed, total int64) {
		done := int(width * completed / max(total, 1))
		line = fmt.Sprintf("[%s%s] %3d %%", strings.Repeat("#", done), strings.Repeat("-", width-done),
			100*completed/max(total, 1))
		fmt.Fprint(os.Stderr, "\r"+line)
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(line)
	// Output: [####################] 100 %
}

// An index lists a manifest for each platform.
func ExampleRepository_Platform() {
	demo := newDemo()
	defer demo.Close()
	repo := openDemo(demo)

	ctx := context.Background()
	index, err := repo.Manifest(ctx, "index")
	if err != nil {
		log.Fatal(err)
	}
	manifest, err := repo.Platform(ctx, index, "linux/amd64")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(index.IsIndex(), manifest.IsIndex(), manifest.MediaType)
	_, err = repo.Platform(ctx, index, "linux/riscv64")
	fmt.Println(err)
	// Output:
	// true false application/vnd.oci.image.manifest.v1+json
	// no manifest for the platform "linux/riscv64": there are linux/amd64
}

// Copying a tag within a registry: the blobs are there already.
func ExampleRepository_PutManifest() {
	demo := newDemo()
	defer demo.Close()
	repo := openDemo(demo)

	ctx := context.Background()
	manifest, err := repo.Manifest(ctx, "latest")
	if err != nil {
		log.Fatal(err)
	}
	if err := repo.PutManifest(ctx, "stable", manifest); err != nil {
		log.Fatal(err)
	}
	there, err := repo.Exists(ctx, "stable")
	fmt.Println(there, err)
	// Output: true <nil>
}

// Tags of which there may be very many come page by page.
func ExampleRepository_AllTags() {
	demo := newDemo()
	defer demo.Close()
	for tag, err := range openDemo(demo).AllTags(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(tag)
	}
	// Output:
	// index
	// latest
}

// A signature refers to a model, and is found by it.
func ExampleRepository_Referrers() {
	demo := newDemo()
	defer demo.Close()
	ctx, repo := context.Background(), openDemo(demo)
	model, err := repo.Manifest(ctx, "latest")
	if err != nil {
		log.Fatal(err)
	}
	signature := fmt.Sprintf(`{"schemaVersion":2,"artifactType":"application/vnd.example.signature",`+
		`"mediaType":%q,"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		registry.MediaTypeManifest, model.MediaType, model.Digest, len(model.Data))
	if err := repo.PutManifest(ctx, "", registry.NewManifest([]byte(signature), "")); err != nil {
		log.Fatal(err)
	}
	list, err := repo.Referrers(ctx, model.Digest, "application/vnd.example.signature")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(list), list[0].ArtifactType)
	// Output: 1 application/vnd.example.signature
}

// A tag is deleted. The manifest stays, under its digest and its other tags.
func ExampleRepository_Delete() {
	demo := newDemo()
	defer demo.Close()
	ctx, repo := context.Background(), openDemo(demo)
	if err := repo.Delete(ctx, "index"); err != nil {
		log.Fatal(err)
	}
	there, err := repo.Exists(ctx, "index")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(there)
	// Output: false
}

// A blob is streamed to two places at once: what was written is right only where the copy ends without an
// error.
func ExampleRepository_Blob() {
	demo := newDemo()
	defer demo.Close()
	ctx, repo := context.Background(), openDemo(demo)
	manifest, err := repo.Manifest(ctx, "latest")
	if err != nil {
		log.Fatal(err)
	}
	content, err := manifest.Content()
	if err != nil {
		log.Fatal(err)
	}
	blob, err := repo.Blob(ctx, content.Layers[0].Blob())
	if err != nil {
		log.Fatal(err)
	}
	defer blob.Close()
	var kept strings.Builder
	if _, err := io.Copy(io.MultiWriter(&kept, os.Stdout), blob); err != nil {
		log.Fatal(err)
	}
	fmt.Printf(", %d bytes\n", kept.Len())
	// Output: the weights, 11 bytes
}
