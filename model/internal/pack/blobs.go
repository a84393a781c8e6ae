package pack

import (
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/opencontainers/go-digest"
)

// BlobName is the name of a blob's file. The digest must be valid.
func BlobName(dg digest.Digest) string { return strings.Replace(dg.String(), ":", "-", 1) }

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
