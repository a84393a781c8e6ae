package contender

import (
	"context"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/regclient/regclient"
	"github.com/regclient/regclient/config"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/descriptor"
	"github.com/regclient/regclient/types/ref"
)

func regclientOf(_ context.Context, j *Job) (l library, err error) {
	host := config.HostNewName(j.host())
	host.TLS = config.TLSDisabled
	host.ReqConcurrent = int64(j.workers())
	client := regclient.New(regclient.WithConfigHost(*host),
		regclient.WithRegOpts(reg.WithTransport(transport(j.workers()))))
	r, err := ref.New(j.name())
	if err != nil {
		return l, err
	}
	describe := func(b Blob) descriptor.Descriptor {
		return descriptor.Descriptor{MediaType: octetStream, Digest: digest.Digest(b.Digest), Size: b.Size}
	}
	l.verifies = true
	l.fetch = func(ctx context.Context, b Blob) (io.ReadCloser, error) {
		return client.BlobGet(ctx, r, describe(b))
	}
	l.push = func(ctx context.Context, b Blob, f *os.File) error {
		_, err := client.BlobPut(ctx, r, describe(b), f)
		return err
	}
	return l, nil
}
