package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/tempdir"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/spf13/cobra"
)

const (
	defaultDemoRepository = "demo/tensors"
	defaultDemoSize       = 256_000_000
	defaultDemoTensors    = 300
)

// errNothingKept goes with the error of a demo that was interrupted and has removed its files.
var errNothingKept = errors.New("the files of the demo were removed")

// demoOptions are the flags that only demo has.
type demoOptions struct {
	registry, repository, dir string
	size                      byteSize
	model                     demoModel
}

func demoCommand(a *app) *cobra.Command {
	o := demoOptions{size: defaultDemoSize}
	c := &cobra.Command{
		Use: "demo", Short: "Make a model, push it, pull it back, compare every byte", GroupID: "move",
		Long: "Demo makes a model, pushes it to a registry inside the program, pulls it back and compares " +
			"every byte. It needs about three times the size of its model on disk, in TMPDIR or --dir.",
		Example: "  transfer demo\n  transfer demo --size 2G --tensors 5000 --dir /tmp/demo",
		Args:    operands(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return demonstration{a}.run(cmd.Context(), o) },
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.Var(&o.size, "size", "`SIZE` of the one big blob, 0 for none")
	fs.IntVar(&o.model.tensors, "tensors", defaultDemoTensors, "number of small blobs: `N`")
	fs.Uint64Var(&o.model.seed, "seed", 1, "another `NUMBER` makes another model")
	fs.StringVar(&o.dir, "dir", "", "work in `DIR` and leave the files there; otherwise they are removed")
	fs.StringVar(&o.registry, "registry", "", "use the registry at this `URL` or host instead of its own")
	fs.StringVar(&o.repository, "repository", defaultDemoRepository, "push to the repository of this `NAME`")
	return c
}

// demonstration is one run of demo.
type demonstration struct{ *app }

func (a demonstration) run(ctx context.Context, o demoOptions) error {
	o.model.size = int64(o.size)
	switch {
	case o.model.tensors < 0:
		return usagef("--tensors is negative")
	case o.size != 0 && o.size < minBlob:
		return usagef("--size must be 0 or at least %d", minBlob)
	}
	return a.in(ctx, o)
}

// in runs the demo in the directory of --dir or in one that is removed
// afterwards, whatever happens.
func (a demonstration) in(ctx context.Context, o demoOptions) (err error) {
	if o.dir != "" {
		if err := a.with(ctx, o); err != nil {
			return err
		}
		a.say("the files are in %s", o.dir)
		return nil
	}
	if o.dir, err = tempdir.Make("transfer-demo-*"); err != nil {
		return err
	}
	err = moreSpace(a.with(ctx, o))
	if failed := os.RemoveAll(o.dir); failed != nil {
		return errors.Join(err, failed)
	}
	if ctx.Err() != nil {
		err = errors.Join(err, errNothingKept)
	}
	if err != nil {
		return err
	}
	a.say("the files in %s were removed; --dir keeps them", o.dir)
	return nil
}

// moreSpace says what to do where an error is a lack of space.
func moreSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, transfer.ErrInsufficientSpace) {
		return fmt.Errorf("%w (--dir or TMPDIR can name a place with more space, --size a smaller model)",
			err)
	}
	return err
}

// with runs the demo against the registry of --registry or one of its own.
func (a demonstration) with(ctx context.Context, o demoOptions) error {
	if o.registry == "" {
		s, err := startServer(filepath.Join(o.dir, "registry"))
		if err != nil {
			return err
		}
		defer func() {
			s.close()
			_ = s.registry.RemoveUploads() // uploads that did not end take space in --dir, and nothing else
		}()
		o.registry = s.url
	}
	r, err := demoReference(o.registry, o.repository)
	if err != nil {
		return malformed(err)
	}
	return a.roundTrip(ctx, a.withScheme(r, o.registry), o)
}

// demoReference names a repository of a registry that is given as a URL or as a host. A word that
// is neither would be taken for a namespace of the default registry.
func demoReference(registry, repository string) (ref.Reference, error) {
	registry = strings.TrimRight(registry, "/")
	if host, _, _ := strings.Cut(registry, "/"); !ref.IsHost(host) {
		const form = "--registry %q is neither a URL nor a host such as localhost:5000"
		return ref.Reference{}, fmt.Errorf(form, registry)
	}
	return ref.Parse(registry + "/" + repository)
}

// roundTrip makes the model, pushes it, pulls it back and compares.
func (a demonstration) roundTrip(ctx context.Context, r ref.Reference, o demoOptions) error {
	start, made := time.Now(), filepath.Join(o.dir, "model")
	if err := o.model.write(ctx, made); err != nil {
		return err
	}
	a.say("made   a model of %s and a blob of %s in %.1f s", plural(o.model.tensors, "tensor"),
		formatBytes(o.model.size), time.Since(start).Seconds())
	paths := []string{made}
	pushed, err := send(a.app, r, paths, pushFlags{}, func(o model.PushOptions) (model.Result, error) {
		return model.Push(ctx, paths, r.URL(), o)
	})
	if err != nil {
		return err
	}
	a.say("pushed %s to %s", outcomeOf(pushed), r)
	back := filepath.Join(o.dir, "pulled")
	pulled, err := a.pull(ctx, r, back)
	if err != nil {
		return err
	}
	a.say("pulled %s", outcomeOf(pulled))
	start = time.Now()
	if err := compare(ctx, made, back, pushed.Files); err != nil {
		return err
	}
	a.same(r, pulled, time.Since(start))
	return nil
}

// pull fetches the model that was pushed.
func (a demonstration) pull(ctx context.Context, r ref.Reference, dir string) (model.Result, error) {
	job := newJob(a.app, "pull")
	defer job.close()
	o := model.PullOptions{Form: model.Blobs}
	var err error
	if o.Options, err = job.options(r); err != nil {
		return model.Result{}, err
	}
	return model.Pull(ctx, r.URL(), dir, o)
}

// same tells that what was pulled is what was pushed.
func (a demonstration) same(r ref.Reference, pulled model.Result, took time.Duration) {
	count, seconds := len(pulled.Files), took.Seconds()
	if a.json {
		a.event("compared", field{"reference", r.URL()}, field{"digest", pulled.Digest},
			field{"blobs", count}, field{"bytes", pulled.Bytes}, field{"seconds", seconds})
	}
	a.say("compared every byte of %s in %.1f s: they are the same", plural(count, "file"), seconds)
}
