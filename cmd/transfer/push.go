package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/modeltransfer/transfer"
)

func (a *app) push(ctx context.Context, args []string) error {
	fs, s := newFlags("push")
	operands, err := a.parse(fs, s, args, "DIR", "REF")
	if err != nil {
		return err
	}
	ref, err := parseReference(operands[1])
	if err != nil {
		return usagef("%v", err)
	}
	j := &job{app: a, settings: s, ref: ref, dir: operands[0]}
	_, done, err := j.upload(ctx)
	if err != nil {
		return err
	}
	j.say("pushed %s to %s: %s", j.dir, ref, done)
	return nil
}

// upload sends the blobs that the directory's manifest names, then the manifest.
// Of a reference with a digest, the manifest must have that digest.
func (j *job) upload(ctx context.Context) (*manifest, outcome, error) {
	data, err := readManifest(j.dir)
	if err != nil {
		return nil, outcome{}, err
	}
	m, err := parseManifest(data)
	if err = errors.Join(err, checkDigest(data, j.ref.digest)); err != nil {
		return nil, outcome{}, fmt.Errorf("%s: %w", filepath.Join(j.dir, manifestName), err)
	}
	remote := j.newRemote(j.ref, j.settings)
	blobs, meter := m.blobs(), j.newMeter("push")
	err = transfer.Upload(ctx, transfer.UploadOptions{
		Blobs: blobs, BaseURL: j.ref.baseURL(), SrcDir: j.dir, Repository: j.ref.repository,
		Concurrency: j.concurrency, Progress: meter.update, GetToken: remote.tokens.get,
		Logger: j.logger(j.settings), MaxBytesPerSecond: int64(j.limitRate),
		Manifest: data, ManifestRef: cmp.Or(j.ref.tag, j.ref.digest.String()),
	})
	return m, meter.close(len(blobs)), err
}
