package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

const (
	defaultDemoRepository = "demo/tensors"
	defaultDemoSize       = 256_000_000
	defaultDemoTensors    = 300
)

// demoOptions are the flags that only demo has.
type demoOptions struct {
	registry, repository, dir string
	size                      byteSize
	model                     model
}

func (a *app) demo(ctx context.Context, args []string) error {
	fs, s := newFlags("demo")
	o := demoOptions{size: defaultDemoSize}
	fs.StringVar(&o.registry, "registry", "", "")
	fs.StringVar(&o.repository, "repository", defaultDemoRepository, "")
	fs.StringVar(&o.dir, "dir", "", "")
	fs.Var(&o.size, "size", "")
	fs.IntVar(&o.model.tensors, "tensors", defaultDemoTensors, "")
	fs.Uint64Var(&o.model.seed, "seed", 1, "")
	if _, err := a.parse(fs, s, args); err != nil {
		return err
	}
	o.model.size = int64(o.size)
	switch {
	case o.model.tensors < 0:
		return usagef("--tensors is negative")
	case o.size != 0 && o.size < minBlob:
		return usagef("--size must be 0 or at least %d", minBlob)
	}
	return a.demoIn(ctx, &job{app: a, settings: s}, o)
}

// demoIn runs the demo in the directory of --dir or in one that is removed
// afterwards, whatever happens.
func (a *app) demoIn(ctx context.Context, j *job, o demoOptions) (err error) {
	if o.dir != "" {
		if err := j.demoWith(ctx, o); err != nil {
			return err
		}
		j.say("the files are in %s", o.dir)
		return nil
	}
	if o.dir, err = os.MkdirTemp("", "transfer-demo-*"); err != nil {
		return err
	}
	err = j.demoWith(ctx, o)
	if err = errors.Join(err, os.RemoveAll(o.dir)); err != nil {
		return err
	}
	j.say("the files in %s were removed; --dir keeps them", o.dir)
	return nil
}

// demoWith runs the demo against the registry of --registry or one of its own.
func (j *job) demoWith(ctx context.Context, o demoOptions) error {
	if o.registry == "" {
		s, err := startServer(filepath.Join(o.dir, "registry"))
		if err != nil {
			return err
		}
		defer s.close()
		o.registry = s.url
	}
	ref, err := parseReference(o.registry + "/" + o.repository)
	if err != nil {
		return usagef("%v", err)
	}
	j.ref = ref
	return j.roundTrip(ctx, o)
}

// roundTrip makes the model, pushes it, pulls it back and compares.
func (j *job) roundTrip(ctx context.Context, o demoOptions) error {
	start, made, pulled := time.Now(), filepath.Join(o.dir, "model"), filepath.Join(o.dir, "pulled")
	if err := o.model.write(ctx, made); err != nil {
		return err
	}
	j.say("made   a model of %d tensors and a blob of %s in %.1f s", o.model.tensors,
		formatBytes(float64(o.model.size)), time.Since(start).Seconds())
	j.dir = made
	m, done, err := j.upload(ctx)
	if err != nil {
		return err
	}
	j.say("pushed %s to %s", done, j.ref)
	j.dir = pulled
	if _, done, err = j.download(ctx, pullOptions{}); err != nil {
		return err
	}
	j.say("pulled %s", done)
	start = time.Now()
	if err := compare(ctx, made, pulled, m.blobs()); err != nil {
		return err
	}
	j.say("compared every byte of %d files in %.1f s: they are the same", done.blobs, time.Since(start).Seconds())
	return nil
}
