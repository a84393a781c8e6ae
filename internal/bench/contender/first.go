package contender

import (
	"cmp"
	"context"

	"github.com/ollama/ollama/x/transfer"
)

func firstBlobs(blobs []Blob) []transfer.Blob {
	all := make([]transfer.Blob, len(blobs))
	for i, b := range blobs {
		all[i] = transfer.Blob{Digest: b.Digest, Size: b.Size}
	}
	return all
}

// firstDownload has as many bodies under way as blobs: its zero value is one.
func firstDownload(ctx context.Context, j *Job) error {
	return transfer.Download(ctx, transfer.DownloadOptions{
		Blobs: firstBlobs(j.Blobs), BaseURL: j.BaseURL, Repository: j.Repository, DestDir: j.Dir,
		Concurrency: j.fixed(), BodyConcurrency: cmp.Or(j.fixed(), transfer.DefaultDownloadConcurrency),
	})
}

func firstUpload(ctx context.Context, j *Job) error {
	return transfer.Upload(ctx, transfer.UploadOptions{
		Blobs: firstBlobs(j.Blobs), BaseURL: j.BaseURL, Repository: j.Repository, SrcDir: j.Dir,
		Concurrency: j.fixed(), BodyConcurrency: cmp.Or(j.fixed(), transfer.DefaultUploadConcurrency),
	})
}
