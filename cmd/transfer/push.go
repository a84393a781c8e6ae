package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/modeltransfer/transfer"
	"github.com/spf13/cobra"
)

func (a *app) pushCommand() *cobra.Command {
	return &cobra.Command{
		Use: "push DIR REF", Short: "Send a model to a registry", GroupID: "move",
		Long:    "Push sends the model that DIR/manifest.json describes.",
		Example: "  transfer push ./model registry.example/me/model:v1",
		Args:    operands("DIR", "REF"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.push(cmd.Context(), args[0], args[1]) },
	}
}

func (a *app) push(ctx context.Context, dir, name string) error {
	r, err := a.reference(name)
	if err != nil {
		return err
	}
	j := &job{app: a, ref: r, dir: dir}
	_, done, err := j.upload(ctx)
	if err != nil {
		return err
	}
	j.say("pushed %s to %s: %s", j.dir, r, done)
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
	if err = errors.Join(err, checkDigest(data, j.ref.Digest)); err != nil {
		return nil, outcome{}, fmt.Errorf("%s: %w", filepath.Join(j.dir, manifestName), err)
	}
	remote := j.newRemote(j.ref)
	blobs, meter := m.blobs(), j.newMeter("push", nil)
	err = transfer.Upload(ctx, transfer.UploadOptions{
		Blobs: blobs, BaseURL: j.ref.BaseURL(), SrcDir: j.dir, Repository: j.ref.Repository,
		Concurrency: j.concurrency, Progress: meter.Update, GetToken: remote.tokens.get,
		Logger: j.logger(), MaxBytesPerSecond: int64(j.limitRate),
		Manifest: data, ManifestRef: cmp.Or(j.ref.Tag, j.ref.Digest.String()),
	})
	return m, closeMeter(meter, len(blobs)), err
}
