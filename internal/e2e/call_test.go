package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

const repository = "library/model"

// upload are the options of most uploads.
func upload(s *server, dir string, blobs []transfer.Blob) transfer.UploadOptions {
	return transfer.UploadOptions{
		Blobs: blobs, BaseURL: s.url, SrcDir: dir, Client: s.client, UserAgent: userAgent,
		Repository: repository,
	}
}

// download are the options of most downloads.
func download(s *server, dir string, blobs []transfer.Blob) transfer.DownloadOptions {
	return transfer.DownloadOptions{
		Blobs: blobs, BaseURL: s.url, DestDir: dir, Client: s.client, UserAgent: userAgent,
		Repository: repository,
	}
}

func push(t testing.TB, opts transfer.UploadOptions) {
	t.Helper()
	require.NoError(t, transfer.Upload(t.Context(), opts))
}

func pull(t testing.TB, opts transfer.DownloadOptions) {
	t.Helper()
	require.NoError(t, transfer.Download(t.Context(), opts))
}
