package contender

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
)

func containerdResolver(j *Job) (r remotes.Resolver, ref string) {
	return docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
		docker.WithPlainHTTP(docker.MatchAllHosts),
		docker.WithClient(&http.Client{Transport: transport(j.workers())}),
	)}), j.host() + "/" + j.Repository + ":latest"
}

func containerdDownload(ctx context.Context, j *Job) error {
	resolver, ref := containerdResolver(j)
	fetcher, err := resolver.Fetcher(ctx, ref)
	if err != nil {
		return err
	}
	s := newSaver()
	return j.each(ctx, func(ctx context.Context, b Blob) error {
		body, err := fetcher.Fetch(ctx, ociDescriptor(b))
		if err != nil {
			return err
		}
		defer body.Close()
		return s.verified(j.path(b), b, body)
	})
}

func containerdUpload(ctx context.Context, j *Job) error {
	resolver, ref := containerdResolver(j)
	pusher, err := resolver.Pusher(ctx, ref)
	if err != nil {
		return err
	}
	return j.each(ctx, func(ctx context.Context, b Blob) (err error) {
		f, err := os.Open(j.path(b))
		if err != nil {
			return err
		}
		defer f.Close()
		w, err := pusher.Push(ctx, ociDescriptor(b))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		return w.Commit(ctx, b.Size, digest.Digest(b.Digest))
	})
}
