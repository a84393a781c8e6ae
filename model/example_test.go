package model_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/registry/registrytest"
)

// exampleRegistry is the variable that names the registry of the examples, for which docker has a log-in.
// Without it they have one of their own, which lets in ada.
const exampleRegistry = "EXAMPLE_REGISTRY"

// example is where an example works: a registry with a log-in, and a directory that is removed.
func example() (host, dir string, end func()) {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		log.Fatal(err)
	}
	write(filepath.Join(dir, "model", "config.json"), "{}")
	write(filepath.Join(dir, "model", "weights.bin"), strings.Repeat("weights ", 1000))
	if host = os.Getenv(exampleRegistry); host != "" {
		return host, dir, func() { _ = os.RemoveAll(dir) }
	}
	server := registrytest.New(registrytest.Options{Username: "ada", Password: "secret", Tokens: true})
	host = strings.TrimPrefix(server.URL, "http://")
	write(filepath.Join(dir, "docker", "config.json"), fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host,
		base64.StdEncoding.EncodeToString([]byte("ada:secret"))))
	before := os.Getenv("DOCKER_CONFIG")
	_ = os.Setenv("DOCKER_CONFIG", filepath.Join(dir, "docker"))
	return host, dir, func() {
		_ = os.Setenv("DOCKER_CONFIG", before)
		server.Close()
		_ = os.RemoveAll(dir)
	}
}

func write(path, text string) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		log.Fatal(err)
	}
}

// A directory goes to a private registry with the log-ins that docker keeps.
func ExamplePush() {
	host, dir, end := example()
	defer end()
	fmt.Println(pushDirectory(context.Background(), filepath.Join(dir, "model"), host+"/me/push:v1"))
	// Output:
	// 2 blobs, 8002 bytes, 0 there already
	// <nil>
}

// A private model comes with its files under their names.
func ExamplePull() {
	host, dir, end := example()
	defer end()
	ctx := context.Background()
	_, err := model.Push(ctx, []string{filepath.Join(dir, "model")}, host+"/me/pull:v1", model.PushOptions{})
	fmt.Println(err)
	fmt.Println(pullFiles(ctx, host+"/me/pull:v1", filepath.Join(dir, "pulled")))
	// Output:
	// <nil>
	// config.json 2
	// weights.bin 8000
	// sha256:b5e338c33fa23ef6661020a367ee6468d3bb4879385e8bd39f9b78626374249b
	// <nil>
}

// Many callers share a cache, in which each version has a directory.
func ExampleInspect_cache() {
	host, dir, end := example()
	defer end()
	ctx := context.Background()
	_, err := model.Push(ctx, []string{filepath.Join(dir, "model")}, host+"/me/cache:v1", model.PushOptions{})
	fmt.Println(err)
	first, err := cached(ctx, filepath.Join(dir, "cache"), host+"/me/cache:v1")
	fmt.Println(err)
	again, err := cached(ctx, filepath.Join(dir, "cache"), host+"/me/cache:v1")
	fmt.Println(first == again, err)
	_, err = os.Stat(filepath.Join(first, "weights.bin"))
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// true <nil>
	// <nil>
}

// An init container asks a mirror that is not there, and then the registry, for ten minutes at most.
func ExamplePull_initContainer() {
	host, dir, end := example()
	defer end()
	ctx := context.Background()
	reference, caches := host+"/me/init:v1", []string{"http://127.0.0.1:1"}
	_, err := model.Push(ctx, []string{filepath.Join(dir, "model")}, reference, model.PushOptions{})
	fmt.Println(err)
	fmt.Println(initContainer(ctx, reference, filepath.Join(dir, "init"), caches))
	// Output:
	// <nil>
	// <nil>
}

// A file is read once, and goes to two places.
func ExampleOpen_tee() {
	host, dir, end := example()
	defer end()
	ctx := context.Background()
	_, err := model.Push(ctx, []string{filepath.Join(dir, "model")}, host+"/me/tee:v1", model.PushOptions{})
	fmt.Println(err)
	var one, two bytes.Buffer
	fmt.Println(tee(ctx, host+"/me/tee:v1", "weights.bin", &one, &two))
	fmt.Println(one.Len(), two.Len())
	// Output:
	// <nil>
	// <nil>
	// 8000 8000
}

// What refers to a model, such as its signatures.
func ExampleAttach() {
	host, dir, end := example()
	defer end()
	ctx, reference := context.Background(), host+"/me/signed:v1"
	_, err := model.Push(ctx, []string{filepath.Join(dir, "model")}, reference, model.PushOptions{})
	fmt.Println(err)
	write(filepath.Join(dir, "m.sig"), "signed")
	_, err = model.Attach(ctx, []string{filepath.Join(dir, "m.sig")}, reference,
		model.PushOptions{ArtifactType: "application/x.sig"})
	fmt.Println(err)
	about, err := model.Inspect(ctx, reference, model.InspectOptions{})
	fmt.Println(err)
	list, err := signatures(ctx, about)
	fmt.Println(len(list), err)
	// Output:
	// <nil>
	// <nil>
	// <nil>
	// 1 <nil>
}
