package contender

import (
	"context"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func ggcrOptions(j *Job) []remote.Option {
	return []remote.Option{remote.WithTransport(transport(j.workers())), remote.WithJobs(j.workers())}
}

func ggcrDownload(ctx context.Context, j *Job) error {
	puller, err := remote.NewPuller(ggcrOptions(j)...)
	if err != nil {
		return err
	}
	s := newSaver()
	return j.each(ctx, func(ctx context.Context, b Blob) error {
		ref, err := name.NewDigest(j.host()+"/"+j.Repository+"@"+b.Digest, name.Insecure)
		if err != nil {
			return err
		}
		layer, err := puller.Layer(ctx, ref)
		if err != nil {
			return err
		}
		body, err := layer.Compressed()
		if err != nil {
			return err
		}
		defer body.Close()
		return s.plain(j.path(b), b, body)
	})
}

func ggcrUpload(ctx context.Context, j *Job) error {
	repo, err := name.NewRepository(j.host()+"/"+j.Repository, name.Insecure)
	if err != nil {
		return err
	}
	pusher, err := remote.NewPusher(ggcrOptions(j)...)
	if err != nil {
		return err
	}
	return j.each(ctx, func(ctx context.Context, b Blob) error {
		return pusher.Upload(ctx, repo, fileLayer{b, j.path(b)})
	})
}

// fileLayer is a blob as ggcr wants it.
type fileLayer struct {
	Blob
	path string
}

var _ v1.Layer = fileLayer{}

func (l fileLayer) Digest() (v1.Hash, error)             { return v1.NewHash(l.Blob.Digest) }
func (l fileLayer) DiffID() (v1.Hash, error)             { return l.Digest() }
func (l fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l fileLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }
func (l fileLayer) Size() (int64, error)                 { return l.Blob.Size, nil }
func (l fileLayer) MediaType() (types.MediaType, error)  { return types.OCILayer, nil }
