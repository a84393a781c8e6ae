package contender

import (
	"context"

	"github.com/modeltransfer/transfer"
)

func transferBlobs(blobs []Blob) []transfer.Blob {
	all := make([]transfer.Blob, len(blobs))
	for i, b := range blobs {
		all[i] = transfer.Blob{Digest: b.Digest, Size: b.Size}
	}
	return all
}

func transferDownload(ctx context.Context, j *Job) error {
	return transfer.Download(ctx, transfer.DownloadOptions{
		Blobs: transferBlobs(j.Blobs), BaseURL: j.BaseURL, Repository: j.Repository, DestDir: j.Dir,
		Concurrency: j.fixed(), BodyConcurrency: j.fixed(),
	})
}

// bodiesDownload fixes the bodies at once and nothing else.
func bodiesDownload(ctx context.Context, j *Job) error {
	return transfer.Download(ctx, transfer.DownloadOptions{
		Blobs: transferBlobs(j.Blobs), BaseURL: j.BaseURL, Repository: j.Repository, DestDir: j.Dir,
		BodyConcurrency: j.fixed(),
	})
}

func transferUpload(ctx context.Context, j *Job) error {
	return transfer.Upload(ctx, transfer.UploadOptions{
		Blobs: transferBlobs(j.Blobs), BaseURL: j.BaseURL, Repository: j.Repository, SrcDir: j.Dir,
		Concurrency: j.fixed(), BodyConcurrency: j.fixed(),
	})
}
