package contender

import (
	"context"
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/retry"
)

func orasRepository(j *Job) (*remote.Repository, error) {
	repo, err := remote.NewRepository(j.host() + "/" + j.Repository)
	if err != nil {
		return nil, err
	}
	repo.PlainHTTP = true
	repo.Client = &auth.Client{Client: &http.Client{Transport: retry.NewTransport(transport(j.workers()))}}
	return repo, nil
}

// ociDescriptor describes a blob as the OCI libraries want it.
func ociDescriptor(b Blob) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.Digest(b.Digest),
		Size: b.Size}
}

func orasDownload(ctx context.Context, j *Job) error {
	repo, err := orasRepository(j)
	if err != nil {
		return err
	}
	s := newSaver()
	return j.each(ctx, func(ctx context.Context, b Blob) error {
		body, err := repo.Blobs().Fetch(ctx, ociDescriptor(b))
		if err != nil {
			return err
		}
		defer body.Close()
		return s.verified(j.path(b), b, body)
	})
}

func orasUpload(ctx context.Context, j *Job) error {
	repo, err := orasRepository(j)
	if err != nil {
		return err
	}
	return j.each(ctx, func(ctx context.Context, b Blob) error {
		f, err := os.Open(j.path(b))
		if err != nil {
			return err
		}
		defer f.Close()
		return repo.Blobs().Push(ctx, ociDescriptor(b), f)
	})
}
