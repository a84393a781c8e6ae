package main

import (
	"context"
	"fmt"
	"os"

	"github.com/modeltransfer/transfer"
)

// pullOptions are the flags that only pull has.
type pullOptions struct {
	verify  bool
	mirrors urlList
}

func (a *app) pull(ctx context.Context, args []string) error {
	fs, s := newFlags("pull")
	var o pullOptions
	fs.BoolVar(&o.verify, "verify", false, "")
	fs.Var(&o.mirrors, "mirror", "")
	operands, err := a.parse(fs, s, args, "REF", "DIR")
	if err != nil {
		return err
	}
	ref, err := parseReference(operands[0])
	if err != nil {
		return usagef("%v", err)
	}
	j := &job{app: a, settings: s, ref: ref, dir: operands[1]}
	_, done, err := j.download(ctx, o)
	if err != nil {
		return err
	}
	j.say("pulled %s to %s: %s", ref, j.dir, done)
	return nil
}

// download fetches the manifest, then the blobs, and writes the manifest last:
// where there is one, the model is whole.
func (j *job) download(ctx context.Context, o pullOptions) (*manifest, outcome, error) {
	remote := j.newRemote(j.ref, j.settings)
	data, err := remote.manifest(ctx)
	if err != nil {
		return nil, outcome{}, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, outcome{}, fmt.Errorf("%s: %w", j.ref, err)
	}
	if err := os.MkdirAll(j.dir, 0o755); err != nil {
		return nil, outcome{}, err
	}
	blobs, meter := m.blobs(), j.newMeter("pull")
	err = transfer.Download(ctx, transfer.DownloadOptions{
		Blobs: blobs, BaseURL: j.ref.baseURL(), DestDir: j.dir, Repository: j.ref.repository,
		Concurrency: j.concurrency, Progress: meter.update, Token: remote.token, GetToken: remote.tokens.get,
		Logger: j.logger(j.settings), MaxBytesPerSecond: int64(j.limitRate), Verify: o.verify, Mirrors: o.mirrors,
	})
	done := meter.close(len(blobs))
	if err != nil {
		return nil, done, err
	}
	return m, done, writeManifest(j.dir, data)
}
