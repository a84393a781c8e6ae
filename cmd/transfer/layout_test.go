package main

import (
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer/model"
	"github.com/opencontainers/go-digest"
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
