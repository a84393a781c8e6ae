package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

func from(repository string, blobs []transfer.Blob) []transfer.Blob {
	mounted := make([]transfer.Blob, 0, len(blobs))
	for _, b := range blobs {
		b.From = repository
		mounted = append(mounted, b)
	}
	return mounted
}

func TestMountSendsNoBody(t *testing.T) {
	s := newDistribution(t).serve(t)
	src, dst := t.TempDir(), t.TempDir()
	blobs := addBlobs(t, src, 1, 1000, 3*mib, 35*mib)
	push(t, upload(s, src, blobs))
	s.forget()

	var last int64
	opts := upload(s, src, from(repository, blobs))
	opts.Repository = "library/fork"
	opts.Progress = func(completed, _ int64) { last = completed }
	push(t, opts)
	assert.Zero(t, sumReceived(s.seen(byLibrary)), "bytes sent")
	assert.Len(t, s.seen(byLibrary, method(http.MethodPost), status(http.StatusCreated)), len(blobs))
	assert.LessOrEqual(t, len(s.seen(byLibrary)), len(blobs)+1,
		"one request for each mount, and a HEAD for a blob that two others went before without an answer yet")
	assert.Equal(t, sumOf(blobs), last)

	pulled := download(s, dst, blobs)
	pulled.Repository = "library/fork"
	pull(t, pulled)
	requireSame(t, src, dst, blobs)
}

func TestMountFromWhereItIsNotSendsTheBody(t *testing.T) {
	for name, s := range registries(t) {
		t.Run(name, func(t *testing.T) {
			src, dst := t.TempDir(), t.TempDir()
			blobs := addBlobs(t, src, 1, 1000, 3*mib)
			push(t, upload(s, src, from("library/nowhere", blobs)))
			assert.Equal(t, sumOf(blobs), sumReceived(s.seen(byLibrary)))
			pull(t, download(s, dst, blobs))
			requireSame(t, src, dst, blobs)
		})
	}
}

func TestMountWithToken(t *testing.T) {
	ts := newTokenServer(t)
	s := newDistribution(t).withToken(ts).serve(t)
	src := t.TempDir()
	blobs := addBlobs(t, src, 1, 1000, 3*mib)
	client := &tokenClient{}
	opts := upload(s, src, blobs)
	opts.GetToken = client.get
	push(t, opts)
	s.forget()

	opts.Blobs, opts.Repository = from(repository, blobs), "library/fork"
	push(t, opts)
	assert.Zero(t, sumReceived(s.seen(byLibrary)), "bytes sent")
	require.Len(t, s.seen(byLibrary, status(http.StatusCreated)), len(blobs))
}
