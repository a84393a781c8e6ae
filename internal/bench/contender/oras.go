package contender

import (
	"context"
	"io"
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// octetStream is the media type that all blobs have where a library asks for one.
const octetStream = "application/octet-stream"

// ociDescriptor describes a blob as the OCI libraries want it.
func ociDescriptor(b Blob) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: octetStream, Digest: digest.Digest(b.Digest), Size: b.Size}
}

func oras(_ context.Context, j *Job) (l library, err error) {
	repo, err := remote.NewRepository(j.name())
	if err != nil {
		return l, err
	}
	repo.PlainHTTP = true
	repo.Client = &auth.Client{Client: &http.Client{Transport: retry.NewTransport(transport(j.workers()))}}
	l.fetch = func(ctx context.Context, b Blob) (io.ReadCloser, error) {
		return repo.Blobs().Fetch(ctx, ociDescriptor(b))
	}
	l.push = func(ctx context.Context, b Blob, f *os.File) error {
		return repo.Blobs().Push(ctx, ociDescriptor(b), f)
	}
	return l, nil
}
