package pack

import (
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BlobName is the name of a blob's file. The digest must be valid.
func BlobName(dg digest.Digest) string { return strings.Replace(dg.String(), ":", "-", 1) }

// BlobPath is where a directory of a kind has a blob, with slashes. Named files are elsewhere: it is "".
func BlobPath(kind Kind, dg digest.Digest) string {
	switch kind {
	case OCI:
		return ocispec.ImageBlobsDir + "/" + dg.Algorithm().String() + "/" + dg.Encoded()
	case Ollama:
		return "blobs/" + BlobName(dg)
	case Blobs:
		return BlobName(dg)
	}
	return ""
}

// TreePath is where that is on this system.
func TreePath(dir string, kind Kind, dg digest.Digest) string {
	return filepath.Join(dir, filepath.FromSlash(BlobPath(kind, dg)))
}

// Distinct lists blobs, each once. One that has two sizes stays twice: a transfer refuses it.
func Distinct(blobs []transfer.Blob) []transfer.Blob {
	seen := make(map[transfer.Blob]bool, len(blobs))
	distinct := make([]transfer.Blob, 0, len(blobs))
	for _, b := range blobs {
		if !seen[b] {
			seen[b] = true
			distinct = append(distinct, b)
		}
	}
	return distinct
}

// Size is the sum of the sizes of blobs.
func Size(blobs []transfer.Blob) (size int64) {
	for _, b := range blobs {
		size += b.Size
	}
	return size
}
