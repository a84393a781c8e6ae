package contender

import (
	"context"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/regclient/regclient"
	"github.com/regclient/regclient/config"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/descriptor"
	"github.com/regclient/regclient/types/ref"
)

func regclientNew(j *Job) (*regclient.RegClient, ref.Ref, error) {
	host := config.HostNewName(j.host())
	host.TLS = config.TLSDisabled
	host.ReqConcurrent = int64(j.workers())
	rc := regclient.New(regclient.WithConfigHost(*host),
		regclient.WithRegOpts(reg.WithTransport(transport(j.workers()))))
	r, err := ref.New(j.host() + "/" + j.Repository)
	return rc, r, err
}

func regclientDescriptor(b Blob) descriptor.Descriptor {
	return descriptor.Descriptor{MediaType: "application/octet-stream", Digest: digest.Digest(b.Digest),
		Size: b.Size}
}

func regclientDownload(ctx context.Context, j *Job) error {
	rc, r, err := regclientNew(j)
	if err != nil {
		return err
	}
	s := newSaver()
	return j.each(ctx, func(ctx context.Context, b Blob) error {
		body, err := rc.BlobGet(ctx, r, regclientDescriptor(b))
		if err != nil {
			return err
		}
		defer body.Close()
		return s.plain(j.path(b), b, body)
	})
}

func regclientUpload(ctx context.Context, j *Job) error {
	rc, r, err := regclientNew(j)
	if err != nil {
		return err
	}
	return j.each(ctx, func(ctx context.Context, b Blob) error {
		f, err := os.Open(j.path(b))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = rc.BlobPut(ctx, r, regclientDescriptor(b), f)
		return err
	})
}
