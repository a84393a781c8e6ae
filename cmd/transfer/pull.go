package main

import (
	"context"
	"fmt"
	"os"

	"github.com/modeltransfer/transfer"
	"github.com/spf13/cobra"
)

// pullOptions are the flags that only pull has.
type pullOptions struct {
	verify  bool
	mirrors urlList
}

func (a *app) pullCommand() *cobra.Command {
	var o pullOptions
	c := &cobra.Command{
		Use: "pull REF DIR", Short: "Fetch a model into a directory", GroupID: "move",
		Long: "Pull fetches a model into DIR. What is there already is not fetched again:\n" +
			"after a failure or Ctrl-C, run the same command again.",
		Example: "  transfer pull all-minilm ./all-minilm\n" +
			"  transfer pull --mirror https://mirror.example registry.example/me/model:v1 ./model",
		Args: operands("REF", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.pull(cmd.Context(), args[0], args[1], o) },
	}
	c.Flags().BoolVar(&o.verify, "verify", false, "hash the files that are there already, repair what is wrong")
	c.Flags().Var(&o.mirrors, "mirror", "ask the registry at this `URL` first; may be repeated")
	return c
}

func (a *app) pull(ctx context.Context, name, dir string, o pullOptions) error {
	r, err := a.reference(name)
	if err != nil {
		return err
	}
	j := &job{app: a, ref: r, dir: dir}
	_, done, err := j.download(ctx, o)
	if err != nil {
		return err
	}
	j.say("pulled %s to %s: %s", r, j.dir, done)
	return nil
}

// download fetches the manifest, then the blobs, and writes the manifest last:
// where there is one, the model is whole.
func (j *job) download(ctx context.Context, o pullOptions) (*manifest, outcome, error) {
	remote := j.newRemote(j.ref)
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
	blobs, meter := m.blobs(), j.newMeter("pull", nil)
	err = transfer.Download(ctx, transfer.DownloadOptions{
		Blobs: blobs, BaseURL: j.ref.BaseURL(), DestDir: j.dir, Repository: j.ref.Repository,
		Concurrency: j.concurrency, Progress: meter.Update, Token: remote.token, GetToken: remote.tokens.get,
		Logger: j.logger(), MaxBytesPerSecond: int64(j.limitRate), Verify: o.verify, Mirrors: o.mirrors,
	})
	done := closeMeter(meter, len(blobs))
	if err != nil {
		return nil, done, err
	}
	return m, done, writeManifest(j.dir, data)
}
