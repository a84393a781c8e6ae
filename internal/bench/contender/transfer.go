package contender

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"

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

// copyDownload asks nobody.
func copyDownload(_ context.Context, j *Job) error {
	for _, b := range j.Blobs {
		if err := copyBlob(filepath.Join(j.Near, b.File()), filepath.Join(j.Dir, b.File()), b); err != nil {
			return err
		}
	}
	return nil
}

// copyBlob copies a file, hashes and syncs the copy.
func copyBlob(from, to string, b Blob) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), in); err != nil {
		return err
	}
	if b.Digest != "sha256:"+hex.EncodeToString(h.Sum(nil)) {
		return errContent
	}
	return out.Sync()
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
