package registrytest_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
	"github.com/modeltransfer/transfer/registry/registrytest"
)

// A pull through a registry that is overloaded, and then breaks off in the middle of a body.
func Example() {
	server := registrytest.New(registrytest.Options{})
	defer server.Close()
	weights := server.PutBlob("library/model", bytes.Repeat([]byte("weights "), 100_000))
	config := server.PutBlob("library/model", []byte("{}"))
	server.PutManifest("library/model", "latest", fmt.Appendf(nil, `{"schemaVersion": 2,
		"config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": %q, "size": 2},
		"layers": [{"mediaType": "application/octet-stream", "digest": %q, "size": 800000}]}`,
		config, weights))
	if err := server.Fault("GET", weights, "503->reset(300K)"); err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	// What the program under test does:
	repo, err := registry.Open(registry.Options{BaseURL: server.URL, Repository: "library/model"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = repo.Pull(context.Background(), "latest", dir, nil)
	fmt.Println("error:", err)

	for _, r := range server.Requests() {
		if strings.HasSuffix(r.Path, weights) {
			fmt.Println(r.Method, r.Status, r.Sent, "bytes")
		}
	}
	// Output:
	// error: <nil>
	// GET 503 58 bytes
	// GET 200 307200 bytes
	// GET 206 492800 bytes
}

// A push to a registry that wants a token, which it gives for a password.
func ExampleOptions() {
	server := registrytest.New(registrytest.Options{Username: "ada", Password: "secret", Tokens: true})
	defer server.Close()
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const dg = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	file := filepath.Join(dir, strings.Replace(dg, ":", "-", 1))
	if err := os.WriteFile(file, []byte("hello"), 0o644); err != nil {
		log.Fatal(err)
	}

	repo, err := registry.Open(registry.Options{
		BaseURL: server.URL, Repository: "library/model",
		Credentials: registry.Credentials{Username: "ada", Password: "secret"},
	})
	if err != nil {
		log.Fatal(err)
	}
	opts := repo.UploadOptions()
	opts.SrcDir, opts.Blobs = dir, []transfer.Blob{{Digest: dg, Size: 5}}
	fmt.Println("error:", transfer.Upload(context.Background(), opts))

	data, found := server.Blob("library/model", dg)
	fmt.Println(string(data), found, server.Count("GET", "/token"))
	// Output:
	// error: <nil>
	// hello true 1
}
