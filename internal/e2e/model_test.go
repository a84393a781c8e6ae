package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer"
)

// TestModel moves a model of tensors and weights both ways.
func TestModel(t *testing.T) {
	const tensors, tensorSize = 2000, 64 * kib
	s := newDistribution(t).serve(t)
	src, dst := t.TempDir(), t.TempDir()
	blobs := make([]transfer.Blob, 0, tensors+1)
	for i := range tensors {
		blobs = append(blobs, addBlob(t, src, randomBytes(t, uint64(i), tensorSize)))
	}
	weights := addStream(t, src, tensors, gib)
	blobs = append(blobs, weights)

	opts := upload(s, src, blobs)
	opts.Manifest, opts.ManifestRef = artifactManifest(t, blobs[0], blobs[1:]), "v1"
	push(t, opts)
	newPeer(t, s, repository).requireManifest(t, "v1", mediaTypeOCI, opts.Manifest)
	sent := s.seen(byLibrary)
	assert.LessOrEqual(t, len(sent), 3*len(blobs)+1, "requests for the upload")
	assert.Equal(t, sumOf(blobs)+int64(len(opts.Manifest)), sumReceived(sent))
	// distribution closes the connection on which it is offered a body that it does not want.
	assert.LessOrEqual(t, s.connections.Load(), int64(len(sent)/10), "connections of the upload")

	s.forget()
	before := s.connections.Load()
	pull(t, download(s, dst, blobs))
	assert.LessOrEqual(t, s.connections.Load()-before, int64(2*transfer.DefaultDownloadConcurrency),
		"connections of the download")
	requireSame(t, src, dst, blobs)
	requests, bytes := make(map[string]int), make(map[string]int64)
	for _, e := range s.seen(byLibrary) {
		assert.Equal(t, http.MethodGet, e.method)
		requests[e.path]++
		bytes[e.path] += e.sent
	}
	assert.Len(t, requests, len(blobs))
	for _, b := range blobs[:tensors] {
		p := "/v2/" + repository + "/blobs/" + b.Digest
		assert.Equal(t, 1, requests[p])
		assert.Equal(t, b.Size, bytes[p])
	}
	p := "/v2/" + repository + "/blobs/" + weights.Digest
	assert.LessOrEqual(t, requests[p], 256, "requests for the weights")
	assert.GreaterOrEqual(t, bytes[p], weights.Size)
	assert.LessOrEqual(t, bytes[p], weights.Size+weights.Size/20)
}
