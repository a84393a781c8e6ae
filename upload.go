package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer/internal/blobstore"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/push"
	"github.com/modeltransfer/transfer/internal/referrers"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sessions"
)

// keepSession is the size of the smallest blob whose upload session is left for a later call. Over 64 KiB/s
// it takes two minutes. A session costs a small file, made and removed: with 4 MiB, U2 took a twentieth
// longer.
const keepSession = 8 << 20 // 8 MiB

// Upload sends the blobs that the registry does not have yet and then the manifest.
//
// It returns nil when the registry has confirmed every blob and the manifest. On
// failure the first error ends the call and the manifest is not sent. Blobs that were
// finished stay there, and are not sent again by the next call. The upload sessions of
// blobs from 8 MiB on stay too where the next call may continue them; the others are
// deleted where the registry lets us.
func Upload(ctx context.Context, opts UploadOptions) error {
	return run(ctx, options{
		op: "upload", blobs: opts.Blobs, baseURL: opts.BaseURL, repository: opts.Repository,
		client: opts.Client, token: opts.Token, getToken: opts.GetToken, userAgent: opts.UserAgent,
		limits: limits{
			concurrency: opts.Concurrency, defaultConcurrency: DefaultUploadConcurrency,
			bodyConcurrency: opts.BodyConcurrency, maxBytesPerSecond: opts.MaxBytesPerSecond,
			limiter: opts.Limiter, stallTimeout: opts.StallTimeout, retryTimeout: opts.RetryTimeout,
		},
		listeners: listeners{opts.Progress, opts.Logger, opts.Trace},
	}, func(ctx context.Context, c *call) error {
		return upload(ctx, c, opts)
	})
}

// upload sends the blobs and then the manifest, which is pushed only where it, its reference and the
// repository are all given.
func upload(ctx context.Context, c *call, o UploadOptions) (err error) {
	data, ref := o.Manifest, o.ManifestRef
	if len(data) == 0 || ref == "" || o.Repository == "" {
		data = nil
	} else if err := checkManifest(ref, data); err != nil {
		return err
	}
	u := &uploader{call: c}
	u.pusher = push.New(push.Config{
		Exchange: c.exchange, Registry: c.registry, Repository: c.repository, Sessions: sessions.Open(),
		Log: c.logger, First: smallest(c.list),
		Moved: c.progress.add, KeepSize: keepSession,
	})
	if len(c.list) > 0 {
		if o.SrcDir == "" {
			return fmt.Errorf("%w: no SrcDir", ErrInvalidOption)
		}
		if u.dir, err = blobstore.OpenSource(o.SrcDir); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, u.dir.Close()) }()
		u.pusher.Open = u.dir.Source
		if err := u.checkSources(ctx); err != nil {
			return err
		}
		c.progress.start(0)
		if err := u.sendBlobs(ctx, smallestFirst(c.list), u.sendBlob); err != nil {
			return err
		}
	}
	if data == nil {
		return nil
	}
	return u.pushManifest(ctx, data, ref)
}

// checkManifest checks the manifest before the first request. What an object has in it, the registry judges:
// some take manifests of their own kind.
func checkManifest(ref string, data []byte) error {
	if err := manifest.CheckObject(data); err != nil {
		return err
	}
	_, _, err := referrers.Subject(ref, data, "")
	return errors.Join(manifest.CheckPush(ref, data), manifest.CheckOne(data, ""), err)
}

// smallestFirst returns the list, largest first, with the last blob before it: what the answer to a small one
// shows of the registry serves the large ones.
func smallestFirst(list []blob) []blob {
	last := len(list) - 1
	return append([]blob{list[last]}, list[:last]...)
}

// smallest returns the digest of the smallest of several blobs.
func smallest(list []blob) digest.Digest {
	if len(list) < 2 {
		return ""
	}
	return list[len(list)-1].digest
}

// uploader is one call of Upload.
type uploader struct {
	*call
	dir    *blobstore.Dir
	pusher *push.Pusher
}

// checkSources looks at all files before the first request.
func (u *uploader) checkSources(ctx context.Context) error {
	for _, b := range u.list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f, err := u.dir.Source(b.digest, b.size)
		if err != nil {
			return u.blobError(b, nil, err)
		}
		f.Close()
	}
	return nil
}

// sendBlobs sends blobs, several at once.
func (u *uploader) sendBlobs(
	ctx context.Context, blobs []blob, send func(context.Context, blob) error,
) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(u.requests())
	for _, b := range blobs {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return send(ctx, b)
		})
	}
	return g.Wait()
}

// sendBlob has one blob in the registry when it returns nil.
func (u *uploader) sendBlob(ctx context.Context, b blob) error {
	budget := retry.NewBudget(u.retryTimeout)
	return u.finish(ctx, b, budget, u.pusher.Blob(b.digest, b.size, b.from, budget))
}

// sendAgain sends a blob that the registry lacks although it has said otherwise.
func (u *uploader) sendAgain(ctx context.Context, b blob) error {
	budget := retry.NewBudget(u.retryTimeout)
	return u.finish(ctx, b, budget, u.pusher.Again(b.digest, b.size, budget))
}

// finish makes attempts until the registry has the blob, and ends its upload.
func (u *uploader) finish(ctx context.Context, b blob, budget *retry.Budget, up *push.Blob) error {
	up.Trace(b.trace)
	b.trace.Begin()
	loop := u.tracedLoop(b.trace, up.Host)
	err := loop.Run(ctx, budget, b.digest.String(), up.Attempt)
	if err = up.Close(ctx, err); err != nil {
		return u.blobError(b, budget, err)
	}
	u.logger.LogAttrs(ctx, slog.LevelDebug, "blob in place",
		slog.String("digest", b.digest.String()), slog.Int64("size", b.size))
	b.trace.Succeed()
	return nil
}

// pushManifest pushes the manifest, when all its blobs are in place. Blobs that the registry then says it
// lacks, though it has said that it has them, are sent again, each once.
func (u *uploader) pushManifest(ctx context.Context, data []byte, ref string) error {
	lacking, header, err := u.putManifest(ctx, data, ref)
	for again := make(map[digest.Digest]bool); err != nil; {
		blobs := u.among(lacking, again)
		if len(blobs) == 0 {
			return fmt.Errorf("manifest %s: %w", ref, err)
		}
		u.logger.LogAttrs(ctx, slog.LevelWarn, "registry lacks blobs it said it has, sending them again",
			slog.Int("blobs", len(blobs)))
		for _, b := range blobs {
			b.trace.Begin() // or one that is not come to would have neither succeeded nor failed
			b.trace.Retry(u.registry.Host(), 0, 0, err)
		}
		if err := u.sendBlobs(ctx, blobs, u.sendAgain); err != nil {
			return err
		}
		lacking, header, err = u.putManifest(ctx, data, ref)
	}
	if err := u.listReferrer(ctx, data, ref, header); err != nil {
		return fmt.Errorf("manifest %s: %w", ref, err)
	}
	u.logger.LogAttrs(ctx, slog.LevelDebug, "manifest in place", slog.String("ref", ref))
	return nil
}

// listReferrer adds the manifest to the list of its subject, where the registry does not say that it does.
func (u *uploader) listReferrer(ctx context.Context, data []byte, ref string, header http.Header) error {
	subject, entry, err := referrers.Subject(ref, data, manifest.MediaType(data))
	if err != nil || subject == "" || referrers.Listed(header, subject) {
		return err
	}
	asker := calls.Asker{Exchange: u.exchange, RetryTimeout: u.retryTimeout, Log: u.logger}
	lists := referrers.Lists{Asker: &asker, Registry: u.registry, Repository: u.repository}
	return lists.Add(ctx, subject, entry)
}

// putManifest returns which blobs the registry lacks where it refuses the manifest for that, and else the
// header of its answer.
func (u *uploader) putManifest(
	ctx context.Context, data []byte, ref string,
) (lacking []digest.Digest, header http.Header, err error) {
	budget := retry.NewBudget(u.retryTimeout)
	m := u.pusher.Manifest(data, ref, budget)
	loop := *u.retry
	loop.Retrying = func(attempt int, wait time.Duration, err error) {
		u.tracer.retriedManifest(u.registry.Host(), attempt, wait, err)
	}
	err = loop.Run(ctx, budget, ref, m.Attempt)
	return m.Lacking(), m.Header(), err
}

// among returns the blobs of the call that have one of the digests and were not sent again yet, and notes in
// again that they are now.
func (u *uploader) among(digests []digest.Digest, again map[digest.Digest]bool) (blobs []blob) {
	wanted := make(map[digest.Digest]bool, len(digests))
	for _, dg := range digests {
		wanted[dg] = true
	}
	for _, b := range u.list {
		if wanted[b.digest] && !again[b.digest] {
			again[b.digest] = true
			blobs = append(blobs, b)
		}
	}
	return blobs
}
