// Package model moves whole models between a directory and a registry: files under their names, archives, OCI
// layouts, Ollama's models. References are as people write them (see [ref.Parse]), and the log-ins are those
// of docker and podman. What moves the blobs is [transfer.Download] and [transfer.Upload]; this package says
// which, and gives them their places.
package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/credentials"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
)

// Options are what all calls share: how registries are reached, and who is told. The zero value is useful.
// All functions in it may be nil, return soon, and are not called after the call has returned.
type Options struct {
	// Credentials returns the log-in to the registry of a reference, and zero for none. Nil means those that
	// docker and podman keep; see package credentials.
	Credentials func(ctx context.Context, r ref.Reference) (registry.Credentials, error)

	// Client sends all requests; see [transfer.DownloadOptions]. Nil means a client of the package's own.
	Client *http.Client

	// Mirrors are base URLs that are asked for manifests and blobs before the registry. They see no log-in. A
	// tag is what the first that has it says; name a digest where that matters.
	Mirrors []string

	// Concurrency, BodyConcurrency and MaxBytesPerSecond bound each transfer as the fields of
	// [transfer.DownloadOptions] do. Zero means the same as there.
	Concurrency, BodyConcurrency int
	MaxBytesPerSecond            int64

	// Limiter caps the speed of all calls that have it, together. What [Copy] passes on as it comes counts
	// once, and what it takes through the disk twice. Nil means no cap but MaxBytesPerSecond.
	Limiter *transfer.Limiter

	// StallTimeout and RetryTimeout are how long a request may go without a byte, and a blob or a manifest
	// without success. Zero means 10 s and 5 min.
	StallTimeout, RetryTimeout time.Duration

	// UserAgent is the User-Agent of every request. Empty means the package's own.
	UserAgent string

	// Logger gets answers at level Debug, and what a person should know at level Warn. Records of a transfer
	// have the attribute "model". Nil means silence.
	Logger *slog.Logger

	// Progress is told how many bytes of the model are there, one call at a time, as that of
	// [transfer.DownloadOptions] is.
	Progress func(completed, total int64)

	// Trace is told what happens to each blob.
	Trace *transfer.Trace

	// Begin is told what is to be moved before the first byte moves: the names and sizes of what Progress and
	// Trace are told of then.
	Begin func(plan Result)

	// Hashing is told how far files are hashed, before they are sent or to verify them, one call at a time.
	Hashing func(completed, total int64)

	// Waiting is told, once, of a directory that another call or process has hold of.
	Waiting func(dir string)
}

// parse reads a reference for a call.
func parse(ctx context.Context, text string) (ref.Reference, error) {
	if ctx == nil {
		return ref.Reference{}, optionf("", "the context is nil")
	}
	r, err := ref.Parse(text)
	if err != nil {
		err = fmt.Errorf("%w: %w", transfer.ErrInvalidOption, err)
	}
	return r, err
}

func (o *Options) tellHashing(completed, total int64) {
	if o.Hashing != nil {
		o.Hashing(completed, total)
	}
}

// waiting returns what tells, once, that a directory is waited for.
func (o *Options) waiting(dir string) func() {
	return sync.OnceFunc(func() { tell(o.Waiting, dir) })
}

// Open returns the repository of a reference, reached as the options say: for what package registry can do
// and this one has no word for, such as tags, referrers or one blob. It sends no request. The error matches
// [transfer.ErrInvalidOption].
func Open(r ref.Reference, opts Options) (*registry.Repository, error) {
	return registry.Open(opts.registryOptions(r))
}

// registryOptions says how the registry of a reference is reached.
func (o *Options) registryOptions(r ref.Reference) registry.Options {
	return registry.Options{
		BaseURL: r.BaseURL(), Repository: r.Repository, Mirrors: o.Mirrors, Client: o.Client,
		GetCredentials: o.credentials(r), Logger: o.Logger, UserAgent: o.UserAgent,
		StallTimeout: o.StallTimeout, RetryTimeout: o.RetryTimeout,
	}
}

func (o *Options) credentials(r ref.Reference) func(context.Context) (registry.Credentials, error) {
	if o.Credentials != nil {
		return func(ctx context.Context) (registry.Credentials, error) { return o.Credentials(ctx, r) }
	}
	files := credentials.Find(os.Getenv)
	if o.Logger != nil {
		files.Skipped = func(u *credentials.Unreadable) {
			o.Logger.Warn("a log-in cannot be read and is left out", slog.Any("error", u))
		}
	}
	return files.For(r.Host, r.Repository)
}

// openTarget opens the repository of a reference to push to it. It asks whether we are let in, with one
// request: many at once would send the same wrong password, and an account may be locked for that.
func (o *Options) openTarget(ctx context.Context, r ref.Reference) (*registry.Repository, error) {
	options := o.registryOptions(r)
	options.Push, options.Mirrors = true, nil
	repo, err := registry.Open(options)
	if err != nil {
		return nil, err
	}
	_, err = repo.Exists(ctx, r.Version())
	var status *transfer.StatusError
	final := errors.Is(err, registry.ErrUnauthorized) || errors.Is(err, transfer.ErrRetriesExhausted)
	if final || err != nil && !errors.As(err, &status) {
		repo.CloseIdleConnections()
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	return repo, nil // whoever may not read may still push
}

// atOnce bounds requests of this package's own by Concurrency, as a transfer does.
func (o *Options) atOnce(n int) int {
	if o.Concurrency > 0 {
		return min(n, o.Concurrency)
	}
	return min(n, transfer.DefaultUploadConcurrency)
}

// downloadOptions are those of the repository of a reference with the bounds of a transfer.
func (o *Options) downloadOptions(r ref.Reference, repo *registry.Repository) transfer.DownloadOptions {
	d := repo.DownloadOptions()
	d.Logger = o.transferLogger(r)
	d.Trace, d.Progress = o.Trace, o.Progress
	d.Concurrency, d.BodyConcurrency = o.Concurrency, o.BodyConcurrency
	d.MaxBytesPerSecond, d.Limiter = o.MaxBytesPerSecond, o.Limiter
	return d
}

// uploadOptions are those of the repository of a reference with the bounds of a transfer.
func (o *Options) uploadOptions(r ref.Reference, repo *registry.Repository) transfer.UploadOptions {
	u := repo.UploadOptions()
	u.Logger = o.transferLogger(r)
	u.Trace, u.Progress = o.Trace, o.Progress
	u.Concurrency, u.BodyConcurrency = o.Concurrency, o.BodyConcurrency
	u.MaxBytesPerSecond, u.Limiter = o.MaxBytesPerSecond, o.Limiter
	return u
}

func (o *Options) transferLogger(r ref.Reference) *slog.Logger {
	if o.Logger == nil {
		return nil
	}
	return o.Logger.With(slog.String("model", r.String()))
}
