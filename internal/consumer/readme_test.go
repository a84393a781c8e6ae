package consumer_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// goBlock finds the Go code of a page.
var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// outerEnvironment is that of before TestMain, which gives the tests a home without a build cache.
var outerEnvironment = os.Environ()

// aroundReadme makes a program of the functions that the README shows: what they import, and a main that
// pulls a model and pushes it under another name.
const aroundReadme = `package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/modeltransfer/transfer"
)

func main() {
	ctx, blobs := context.Background(), []transfer.Blob{{Digest: %q, Size: %d}}
	if err := pull(ctx, blobs); err != nil {
		log.Fatal(err)
	}
	if err := push(ctx, blobs, []byte(os.Args[1])); err != nil {
		log.Fatal(err)
	}
}

%s`

// TestReadmeProgramPullsAndPushes compiles and runs the code of the README as it stands there, but for the
// address of the registry.
func TestReadmeProgramPullsAndPushes(t *testing.T) {
	const token = "a token"
	reg := registrytest.New(registrytest.Options{Token: token, CheckManifest: true})
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	content := registrytest.ContentOf(100_000, 1)
	reg.Put("library/model", content.Data)
	blob := layer{Digest: content.Digest.String(), Size: int64(len(content.Data))}

	page, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	require.NoError(t, err)
	blocks := goBlock.FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 1)
	code := strings.ReplaceAll(blocks[0][1], "https://registry.example", server.URL)
	program := buildProgram(t, fmt.Sprintf(aroundReadme, blob.Digest, blob.Size, code))

	manifest := manifestOf(t, blob)
	run := exec.CommandContext(t.Context(), program, string(manifest))
	run.Dir, run.Env = t.TempDir(), append(os.Environ(), "REGISTRY_TOKEN="+token)
	out, err := run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "100000 of 100000 bytes")
	pulled, err := os.ReadFile(filepath.Join(run.Dir, "blobs", strings.Replace(blob.Digest, ":", "-", 1)))
	require.NoError(t, err)
	assert.Equal(t, content.Data, pulled)
	pushed, ok := reg.Manifest("me/model", "latest")
	require.True(t, ok)
	assert.Equal(t, manifest, pushed)
}

// TestProgramsOfThePageCompile builds each whole program of docs/programs.md.
func TestProgramsOfThePageCompile(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "programs.md"))
	require.NoError(t, err)
	built := 0
	for _, block := range goBlock.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(block[1], "package main\n") {
			buildProgram(t, block[1])
			built++
		}
	}
	assert.Positive(t, built)
}

// buildProgram compiles a program of one file against this module.
func buildProgram(t *testing.T, code string) (path string) {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(source, []byte(code), 0o644))
	path = filepath.Join(dir, "program.exe")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", path, source)
	build.Env = outerEnvironment
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}
