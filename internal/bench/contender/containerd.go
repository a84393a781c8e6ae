package contender

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
)

func containerd(ctx context.Context, j *Job) (l library, err error) {
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
		docker.WithPlainHTTP(docker.MatchAllHosts),
		docker.WithClient(&http.Client{Transport: transport(j.workers())}),
	)})
	ref := j.name() + ":latest"
	fetcher, err := resolver.Fetcher(ctx, ref)
	if err != nil {
		return l, err
	}
	pusher, err := resolver.Pusher(ctx, ref)
	if err != nil {
		return l, err
	}
	l.fetch = func(ctx context.Context, b Blob) (io.ReadCloser, error) { return fetcher.Fetch(ctx, ociDescriptor(b)) }
	l.push = func(ctx context.Context, b Blob, f *os.File) (err error) {
		w, err := pusher.Push(ctx, ociDescriptor(b))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		return w.Commit(ctx, b.Size, digest.Digest(b.Digest))
	}
	return l, nil
}
