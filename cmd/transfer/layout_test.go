package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modeltransfer/transfer/model"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What pull leaves in a directory.
const (
	stateDir         = ".transfer"
	manifestName     = "manifest.json"
	unpackAnnotation = "io.deis.oras.content.unpack"
)

// treePath is where a directory of a form has a blob.
func treePath(dir string, form model.Form, dg digest.Digest) string {
	name := strings.Replace(dg.String(), ":", "-", 1)
	switch form {
	case model.OCILayout:
		return filepath.Join(dir, "blobs", dg.Algorithm().String(), dg.Encoded())
	case model.Ollama:
		return filepath.Join(dir, "blobs", name)
	}
	return filepath.Join(dir, name)
}

func TestAPullReplacesNoManifestOfAnotherProgram(t *testing.T) {
	reg := newAnyRegistry(t)
	blob := reg.put("x")
	ref := reg.ref(reg.of(fmt.Sprintf(`{"mediaType":"a/b","digest":%q,"size":%d}`, blob.Digest, blob.Size)))
	const mine = `{"name":"an extension of a browser"}`
	for _, files := range []map[string]string{
		{"manifest.json": mine}, {"manifest.json": mine, "background.js": ""},
	} {
		dir := tree(t, files)
		for _, into := range []string{"auto", "blobs"} {
			r := runWith(t, "pull", "--into", into, ref, dir)
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stderr, "is not of a pull")
		}
		assert.Equal(t, files, filesOf(t, dir))
	}
	dir := filepath.Join(t.TempDir(), "dir")
	must(t, "pull", ref, dir)
	must(t, "pull", ref, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("damaged"), 0o600))
	must(t, "pull", ref, dir)
	must(t, "verify", dir)
}
