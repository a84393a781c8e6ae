package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modeltransfer/transfer"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAManifestListsEachBlobOnce(t *testing.T) {
	other := digest.FromString("other").String()
	m, err := parseManifest(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q,"size":0},
		"layers":[{"digest":%q,"size":5,"name":"a"},{"digest":%q,"size":5,"name":"b"},{"digest":%q,"size":0}]}`,
		dockerManifest, someDigest, other, other, someDigest))
	require.NoError(t, err)
	assert.Equal(t, []transfer.Blob{{Digest: someDigest}, {Digest: other, Size: 5}}, m.blobs())
}

func TestManifestsThatCannotBeMovedAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"not JSON":           {"<html>", errManifest},
		"not an object":      {"[]", errManifest},
		"empty":              {"{}", errManifest},
		"schema 1":           {`{"schemaVersion":1,"fsLayers":[]}`, errManifest},
		"no config":          {`{"schemaVersion":2,"layers":[]}`, errManifest},
		"a malformed digest": {`{"schemaVersion":2,"config":{"digest":"sha256:../../etc"}}`, errManifest},
		"a negative size":    {`{"schemaVersion":2,"config":{"digest":"` + someDigest + `","size":-1}}`, errManifest},
		"an index":           {`{"schemaVersion":2,"manifests":[{"digest":"` + someDigest + `","size":1}]}`, errIndex},
		"an empty index":     {`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`, errIndex},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseManifest([]byte(test.text))
			assert.ErrorIs(t, err, test.want)
		})
	}
}

func TestAnIndexHintsAtOneOfItsManifests(t *testing.T) {
	_, err := parseManifest([]byte(`{"schemaVersion":2,"manifests":[{"digest":"` + someDigest + `","size":1}]}`))
	require.ErrorContains(t, err, "@"+someDigest)
}

func TestAManifestIsWrittenWhole(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, writeManifest(dir, []byte("old and longer")))
	require.NoError(t, writeManifest(dir, []byte("new")))
	data, err := readManifest(dir)
	require.NoError(t, err)
	assert.Equal(t, "new", string(data))
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	hidden, err := filepath.Glob(filepath.Join(dir, ".*"))
	require.NoError(t, err)
	assert.Len(t, append(left, hidden...), 1)
}

func TestAManifestThatCannotBePlacedLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, manifestName), 0o755))
	require.Error(t, writeManifest(dir, []byte("new")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestAManifestHasALimit(t *testing.T) {
	_, err := readBounded(strings.NewReader(strings.Repeat("x", maxManifest)))
	require.NoError(t, err)
	_, err = readBounded(bytes.NewReader(make([]byte, maxManifest+1)))
	require.ErrorIs(t, err, errManifestTooLarge)
}

func TestTheDigestOfAManifestIsChecked(t *testing.T) {
	require.NoError(t, checkDigest([]byte("x"), ""))
	require.NoError(t, checkDigest([]byte("x"), digest.FromString("x")))
	require.NoError(t, checkDigest([]byte("x"), digest.SHA512.FromString("x")))
	require.ErrorIs(t, checkDigest([]byte("y"), digest.FromString("x")), errManifestDigest)
}
