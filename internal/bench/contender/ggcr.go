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

func ggcr(_ context.Context, j *Job) (l library, err error) {
	repo, err := name.NewRepository(j.name(), name.Insecure)
	if err != nil {
		return l, err
	}
	options := []remote.Option{remote.WithTransport(transport(j.workers())), remote.WithJobs(j.workers())}
	puller, err := remote.NewPuller(options...)
	if err != nil {
		return l, err
	}
	pusher, err := remote.NewPusher(options...)
	if err != nil {
		return l, err
	}
	l.verifies = true
	l.fetch = func(ctx context.Context, b Blob) (io.ReadCloser, error) {
		layer, err := puller.Layer(ctx, repo.Digest(b.Digest))
		if err != nil {
			return nil, err
		}
		return layer.Compressed()
	}
	l.push = func(ctx context.Context, b Blob, f *os.File) error {
		return pusher.Upload(ctx, repo, fileLayer{b, f.Name()})
	}
	return l, nil
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
