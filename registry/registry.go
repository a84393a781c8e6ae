// Package registry is what a program needs around [transfer.Download] and [transfer.Upload]:
// credentials, manifests and tags of one repository of an OCI, Docker or Ollama registry.
//
//	repo, err := registry.Open(registry.Options{BaseURL: "https://registry.example", Repository: "a/model"})
//	manifest, err := repo.Pull(ctx, "latest", "model", nil)
//
// Pull is short for what can also be done step by step, with all the options of Download:
//
//	manifest, err := repo.Manifest(ctx, "latest")
//	opts := repo.DownloadOptions()
//	opts.DestDir = "model"
//	opts.Blobs, err = manifest.Blobs()
//	err = transfer.Download(ctx, opts)
//
// # Credentials
//
// [Repository.GetToken] turns credentials into the token that a registry asks for: anonymous, user and
// password, identity token, or Basic authentication where the registry knows no other. Credentials go
// to the registry and to the token server that it names, and nowhere else: a redirect of the token
// server to another host is refused. The token goes to the registry only, and never to a mirror.
// Neither is ever part of an error or a log.
//
// # Manifests
//
// [Repository.Manifest] returns a manifest only if its bytes are those of its digest. [Manifest.Blobs]
// lists what there is to fetch, and [Repository.Platform] picks one manifest of an index.
// [Repository.AllTags], [Repository.Referrers] and [Repositories] list what there is. [Repository.Blob] reads
// one blob, for who keeps it elsewhere than in a directory.
//
// # Failures
//
// Failures of the network, stalls and answers such as 429 and 503 are tried again as in package
// transfer, with Retry-After, until RetryTimeout is over. Errors match the sentinels of package
// transfer, [*transfer.StatusError] and, where credentials are missing or refused, [ErrUnauthorized], or
// [ErrDenied] where these may not do what was asked for. Misuse, such as a nil context, a zero Repository or
// bytes that are no manifest, is [transfer.ErrInvalidOption] or [ErrManifest] before the first request.
//
// # Concurrency
//
// A [Repository] may be used by several goroutines at once. No goroutine of it outlives a call, but for those
// of the connections that wait for the next, see [Repository.CloseIdleConnections].
package registry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/wire"
)

// maxConns is how many idle connections the package's own client keeps for a host. A repository asks for
// little at once.
const maxConns = 4

// Options say which repository [Open] opens and how it is asked. Only BaseURL and Repository are needed.
type Options struct {
	// BaseURL is the registry: scheme, host and port, perhaps a path prefix, as in
	// "https://registry.example". That of Docker Hub is "https://registry-1.docker.io".
	BaseURL string

	// Repository is the repository's name, as in "library/model".
	Repository string

	// Mirrors are base URLs asked for manifests and blobs before BaseURL, in this order. Any failure
	// falls through to the next. They never see the token. A manifest asked for by its tag is what the
	// first mirror that has the tag says it is; ask by digest where that matters. Empty means none.
	Mirrors []string

	// Credentials are those for the registry. The zero value is anonymous access.
	Credentials Credentials

	// GetCredentials returns the credentials, each time a token is needed: it may ask a person or a
	// credential helper, but not this repository. Its error fails what needed the token. Nil means that
	// Credentials are used.
	GetCredentials func(ctx context.Context) (Credentials, error)

	// Push asks for tokens that may push as well as pull. False means for pulling only, except where a method
	// or the registry's challenge wants more.
	Push bool

	// Client sends the requests; see [transfer.DownloadOptions]. Its Timeout and its redirect policy
	// are not used. Nil means a client of the package's own.
	Client *http.Client

	// Logger gets answers at level Debug, and what a person should know at level Warn. Nil means silence.
	Logger *slog.Logger

	// UserAgent is the User-Agent of every request. Empty means the package's own.
	UserAgent string

	// StallTimeout is how long a request may go without one byte of progress before it is given up and tried
	// again. Zero means 10 s.
	StallTimeout time.Duration

	// RetryTimeout is how long a request is tried again while its failures are temporary. Zero means 5 min.
	// Permanent errors never wait.
	RetryTimeout time.Duration
}

// Repository is one repository of a registry.
type Repository struct{ core }

// core is what all calls of a repository are made with.
type core struct {
	opts     Options // with the defaults filled in
	registry *wire.Registry
	mirrors  []*wire.Registry
	health   []health // of each mirror
	client   *wire.Client
	auth     *authorizer
	answers  exchange.Answers // of all calls: one that renews a token must not give up on its server early
	idle     idle
	log      *slog.Logger
}

// Open checks the options and returns the repository. It sends no request. The error is
// [transfer.ErrInvalidOption].
func Open(opts Options) (*Repository, error) {
	opts.UserAgent = cmp.Or(opts.UserAgent, calls.DefaultUserAgent)
	opts.StallTimeout = cmp.Or(opts.StallTimeout, calls.DefaultStallTimeout)
	opts.RetryTimeout = cmp.Or(opts.RetryTimeout, calls.DefaultRetryTimeout)
	opts.Mirrors = slices.Clone(opts.Mirrors)
	r := &Repository{core{opts: opts, log: cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))}}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", transfer.ErrInvalidOption, err)
	}
	r.health = make([]health, len(r.mirrors))
	r.client = wire.NewClient(opts.Client, opts.UserAgent, maxConns)
	r.auth = r.newAuthorizer()
	return r, nil
}

// check parses and checks the options.
func (r *core) check() (err error) {
	r.registry, r.mirrors, err = calls.Places(r.opts.BaseURL, r.opts.Repository, r.opts.Mirrors)
	if err != nil {
		return err
	}
	if r.opts.StallTimeout < 0 || r.opts.RetryTimeout < 0 {
		return fmt.Errorf("a timeout is negative")
	}
	if err := wire.CheckHeader("UserAgent", r.opts.UserAgent); err != nil {
		return err
	}
	return r.opts.Credentials.check()
}

// CloseIdleConnections closes the connections that wait for the next call. It is not needed: they are
// closed when there was no call for 30 s.
func (r *Repository) CloseIdleConnections() {
	if r.client != nil {
		r.client.Close()
	}
}

// idleTimeout is how long connections wait for the next call.
const idleTimeout = 30 * time.Second

// idle ends what is kept between calls.
type idle struct {
	mu    sync.Mutex
	timer *time.Timer // guarded by mu
}

// restart calls end after idleTimeout, unless restart is called again before.
func (i *idle) restart(end func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.timer != nil {
		i.timer.Stop()
	}
	i.timer = time.AfterFunc(idleTimeout, end)
}

// DownloadOptions returns options for [transfer.Download] with all that the repository knows filled in:
// BaseURL, Repository, Mirrors, Client, Token, GetToken, Logger, UserAgent, StallTimeout and RetryTimeout.
// Those of a zero Repository have nothing, and are refused. Token is the one that the repository has
// already, or empty. Blobs and DestDir are left to the caller.
func (r *Repository) DownloadOptions() transfer.DownloadOptions {
	if r.client == nil {
		return transfer.DownloadOptions{}
	}
	return transfer.DownloadOptions{
		BaseURL: r.opts.BaseURL, Repository: r.opts.Repository, Mirrors: slices.Clone(r.opts.Mirrors),
		Client: r.opts.Client, Token: r.auth.current(toPull), GetToken: r.GetToken, Logger: r.opts.Logger,
		UserAgent: r.opts.UserAgent, StallTimeout: r.opts.StallTimeout, RetryTimeout: r.opts.RetryTimeout,
	}
}

// UploadOptions returns options for [transfer.Upload] with all that the repository knows filled in, as
// [Repository.DownloadOptions] does. The tokens it gets may push, without [Options.Push] too. Blobs,
// SrcDir, Manifest and ManifestRef are left to the caller.
func (r *Repository) UploadOptions() transfer.UploadOptions {
	if r.client == nil {
		return transfer.UploadOptions{}
	}
	return transfer.UploadOptions{
		BaseURL: r.opts.BaseURL, Repository: r.opts.Repository,
		Client: r.opts.Client, Token: r.auth.current(toPush), GetToken: r.getPushToken, Logger: r.opts.Logger,
		UserAgent: r.opts.UserAgent, StallTimeout: r.opts.StallTimeout, RetryTimeout: r.opts.RetryTimeout,
	}
}
