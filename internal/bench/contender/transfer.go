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
	opts := downloadOptions(j)
	opts.Concurrency = j.fixed()
	return transfer.Download(ctx, opts)
}

// reuseDownload takes what it can from an older version.
func reuseDownload(ctx context.Context, j *Job) error {
	opts := downloadOptions(j)
	opts.Reuse = []string{j.Old}
	return transfer.Download(ctx, opts)
}

// bodiesDownload fixes the bodies at once and nothing else.
func bodiesDownload(ctx context.Context, j *Job) error {
	return transfer.Download(ctx, downloadOptions(j))
}

func downloadOptions(j *Job) transfer.DownloadOptions {
	return transfer.DownloadOptions{
		Blobs: transferBlobs(j.Blobs), BaseURL: j.BaseURL, Repository: j.Repository, DestDir: j.Dir,
		BodyConcurrency: j.fixed(),
	}
}

func transferUpload(ctx context.Context, j *Job) error {
	return transfer.Upload(ctx, transfer.UploadOptions{
		Blobs: transferBlobs(j.Blobs), BaseURL: j.BaseURL, Repository: j.Repository, SrcDir: j.Dir,
		Concurrency: j.fixed(), BodyConcurrency: j.fixed(),
	})
}
