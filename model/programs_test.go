package model_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// The programs of docs/models.md. The examples run them.

func pullFiles(ctx context.Context, reference, dir string) error {
	result, err := model.Pull(ctx, reference, dir, model.PullOptions{Options: model.Options{
		Progress: func(completed, total int64) {
			fmt.Fprintf(os.Stderr, "\r%d of %d bytes", completed, total)
		},
	}})
	for _, file := range result.Files {
		fmt.Println(file.Name, file.Size)
	}
	fmt.Println(result.Digest)
	return err
}

func pushDirectory(ctx context.Context, dir, reference string) error {
	result, err := model.Push(ctx, []string{dir}, reference, model.PushOptions{})
	fmt.Println(len(result.Files), "blobs,", result.Bytes, "bytes,", result.There, "there already")
	return err
}

func cached(ctx context.Context, cache, reference string) (dir string, err error) {
	about, err := model.Inspect(ctx, reference, model.InspectOptions{})
	if err != nil {
		return "", err
	}
	dir = filepath.Join(cache, strings.Replace(about.Manifest.Digest, ":", "-", 1))
	pinned := about.Reference.WithDigest(digest.Digest(about.Manifest.Digest))
	_, err = model.Pull(ctx, pinned.URL(), dir, model.PullOptions{})
	return dir, err
}

func initContainer(ctx context.Context, reference, dir string, mirrors []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	_, err := model.Pull(ctx, reference, dir, model.PullOptions{
		Options: model.Options{Mirrors: mirrors}, Verify: true, Delete: true,
	})
	return err // run again, it goes on where it was
}

func tee(ctx context.Context, reference, name string, out io.Writer, copies io.Writer) error {
	about, err := model.Inspect(ctx, reference, model.InspectOptions{})
	if err != nil {
		return err
	}
	repo, err := model.Open(about.Reference, model.Options{})
	if err != nil {
		return err
	}
	defer repo.CloseIdleConnections()
	for _, file := range about.Files {
		if file.Name != name {
			continue
		}
		body, err := repo.Blob(ctx, transfer.Blob{Digest: file.Digest, Size: file.Size})
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = io.Copy(io.MultiWriter(out, copies), body) // nil means that it was the blob
		return err
	}
	return fmt.Errorf("%s has no %s", reference, name)
}

func signatures(ctx context.Context, about model.Description) ([]registry.Descriptor, error) {
	repo, err := model.Open(about.Reference, model.Options{})
	if err != nil {
		return nil, err
	}
	defer repo.CloseIdleConnections()
	return repo.Referrers(ctx, about.Manifest.Digest, "application/x.sig")
}
