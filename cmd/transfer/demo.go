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
	err = moreRoom(j.demoWith(ctx, o))
	if failed := os.RemoveAll(o.dir); failed != nil {
		return errors.Join(err, failed)
	}
	if ctx.Err() != nil {
		err = errors.Join(err, errNothingKept)
	}
	if err != nil {
		return err
	}
	j.say("the files in %s were removed; --dir keeps them", o.dir)
	return nil
}

// moreRoom says what to do where an error is a lack of room.
func moreRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, transfer.ErrInsufficientSpace) {
		return fmt.Errorf("%w (--dir or TMPDIR can name a place with more room, --size a smaller model)", err)
	}
	return err
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
	ref, err := demoReference(o.registry, o.repository)
	if err != nil {
		return usagef("%v", err)
	}
	j.ref = ref
	return j.roundTrip(ctx, o)
}

// demoReference names a repository of a registry that is given as a URL or as a host. A word that
// is neither would be taken for a namespace of the default registry.
func demoReference(registry, repository string) (reference, error) {
	registry = strings.TrimRight(registry, "/")
	if host, _, _ := strings.Cut(registry, "/"); !isHost(host) {
		return reference{}, fmt.Errorf("--registry %q is neither a URL nor a host such as localhost:5000", registry)
	}
	return parseReference(registry + "/" + repository)
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
