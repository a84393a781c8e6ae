// Package transfer moves content-addressed blobs between a local directory and
// an OCI, Docker or Ollama registry: many at once, verified, resumable.
//
// [Download] pulls blobs into a directory, [Upload] pushes them from one and
// then pushes the manifest that names them. A model may be thousands of tensors
// of a few KiB, or a few blobs of many GB: the same two calls serve both.
//
// # Integrity
//
// A blob gets its final name, "sha256-<hex>" in the directory, only after all
// its bytes were hashed and found to be those of its digest, written and synced.
// A full disk, a killed process or a power cut leaves no wrong file under such a
// name. That is why a file of the right size under its final name is trusted;
// [DownloadOptions.Verify] hashes it again.
// An upload is hashed while it is sent and never finalised when the file is
// not what its digest says.
//
// # Nothing outside the directory
//
// Digests are validated before a path or a request is made of them. Only regular
// files are used. A symbolic link under the final name of a blob is read through,
// since blobs are kept on other disks that way. Nothing is ever written through one.
//
// # Resume
//
// What was fetched is not fetched again, after a reset, a stall, a cancel or a
// crash. A blob of 64 KiB or more that is half there stays in the directory as
// "sha256-<hex>.partial" beside its journal, and is never taken for the blob. A
// killed process loses the last MiB or so of each body.
//
// # Credentials
//
// The token is sent to the scheme, host and port of the base URL and nowhere
// else: once a redirect or an upload Location has left that origin, the rest of
// the chain goes without Authorization, Cookie and Referer. A chain that began
// with https is never continued with http. URLs in errors and logs are
// redacted.
//
// # Concurrency
//
// Calls may run at the same time, in one process or several, on one directory:
// each blob is fetched once, the others wait for it and use it, as long as bytes
// of it come: for no longer than StallTimeout or RetryTimeout without one. Memory,
// goroutines, connections and open files are bounded by the options, however
// many blobs are listed and whatever the server sends. Every wait ends with the
// context, and nothing of a call outlives it.
//
// # Errors
//
// Failures of the network and of a busy server (see [StatusError.Temporary]) and
// stalls are tried again, with exponential backoff, for as long as new bytes keep
// arriving and then for RetryTimeout; six times where the registry has not answered
// at all. All other answers, certificates that do not hold, a full or read-only
// disk and bad input are permanent: they fail the call without a wait, once a plainer
// request, such as one without a Range, is refused too. The error of a call matches,
// with [errors.Is] and [errors.As], the sentinels of this package, [*StatusError],
// [*BlobError], the error of the context, and the error of the file system or the
// network that lies behind it.
package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/events"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Defaults of the options.
const (
	DefaultDownloadConcurrency = 64
	DefaultUploadConcurrency   = 32

	defaultRepository = "library/_"

	// defaultUserAgent keeps its name: the tests of programs that have a copy of this package use it.
	defaultUserAgent = calls.DefaultUserAgent

	// maxConcurrency keeps a mistyped option from using up the descriptors of
	// the process.
	maxConcurrency = 1024

	// askingAhead is how many requests for each body there may be where the caller has not set Concurrency:
	// most of them ask, or wait for an answer.
	askingAhead = 5
)

// Errors that callers can match with [errors.Is].
var (
	// ErrInvalidOption is an option that no request can be made of, or a nil context.
	ErrInvalidOption = sentinel.ErrInvalidOption

	// ErrInvalidDigest is a digest that is malformed or of an unknown algorithm.
	ErrInvalidDigest = sentinel.ErrInvalidDigest

	// ErrInvalidBlob is a blob of negative size, listed twice with different
	// sizes, or sizes whose sum is more than an int64 holds.
	ErrInvalidBlob = errors.New("invalid blob")

	// ErrDigestMismatch is content that is not what its digest says. Nothing of it
	// is left in DestDir or, for an upload, in the registry.
	ErrDigestMismatch = sentinel.ErrDigestMismatch

	// ErrSizeMismatch is content longer or shorter than the Size of its blob.
	ErrSizeMismatch = sentinel.ErrSizeMismatch

	// ErrStalled is a request that made no progress for StallTimeout.
	ErrStalled = watchdog.ErrStalled

	// ErrRetriesExhausted is a temporary failure that did not pass in time. The error
	// of the last attempt is wrapped too.
	ErrRetriesExhausted = retry.ErrExhausted

	// ErrRedirectRefused is a redirect, an upload Location or a token realm that leads
	// where no request is sent: from https to http, to a scheme other than these, to this
	// machine or its link from elsewhere, in circles, or nowhere.
	ErrRedirectRefused = wire.ErrRedirectRefused

	// ErrWrongScheme is an https URL of a port that speaks plain HTTP, an http URL of one that speaks TLS, or
	// a Location that names another port or scheme of the registry's host where nobody listens. The message
	// says what to check.
	ErrWrongScheme = wire.ErrWrongScheme

	// ErrInsufficientSpace is a DestDir that cannot hold what is still to be fetched. It is found before the
	// first request or, with ENOSPC, EDQUOT or EFBIG behind it, when a file cannot grow any further. What is
	// recorded stays.
	ErrInsufficientSpace = errors.New("not enough free space")

	// ErrProtocol is an answer that breaks the OCI distribution spec or HTTP.
	ErrProtocol = sentinel.ErrProtocol
)

// RegistryError is one error that a registry tells in the body of its answer (OCI
// distribution spec, "Error Codes").
type RegistryError struct {
	Code    string // such as "MANIFEST_BLOB_UNKNOWN"; empty where the body was plain text or of another form
	Message string
}

// StatusError is an answer whose status says that the request failed.
type StatusError struct {
	Method     string
	URL        string // redacted: no user, and no value of a query parameter that may be secret
	StatusCode int
	Errors     []RegistryError // what the body told, often nothing

	elsewhere bool   // another server has answered: the registry's token was not for it
	denied    bool   // a 401 that says that the credentials are good, but not for this
	secure    string // the registry's https URL, to which all of its http one is redirected
}

func (e *StatusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d %s", e.Method, e.URL, e.StatusCode, http.StatusText(e.StatusCode))
	for _, r := range e.Errors {
		fmt.Fprintf(&b, "; %s", strings.TrimPrefix(r.Code+": "+r.Message, ": "))
	}
	if advice := e.Advice(); advice != "" {
		fmt.Fprintf(&b, " (%s)", advice)
	} else if e.elsewhere {
		b.WriteString(" (not the registry but where it has sent us)")
	}
	return b.String()
}

// Is tells [errors.Is] that the error matches registry.ErrUnauthorized, where the registry wants credentials
// or refuses those it got, or registry.ErrDenied, where it does not allow what was asked for. A 403 is the
// latter, and so is a 401 that says insufficient_scope (RFC 6750 section 3.1) or DENIED.
func (e *StatusError) Is(target error) bool {
	switch target {
	case sentinel.ErrUnauthorized:
		return e.StatusCode == http.StatusUnauthorized && !e.isDenied() && (!e.elsewhere || e.secure != "")
	case sentinel.ErrDenied:
		return e.isDenied() && !e.elsewhere
	}
	return false
}

// isDenied tells whether the credentials are good, but may not do this.
func (e *StatusError) isDenied() bool {
	said := func(r RegistryError) bool { return strings.EqualFold(r.Code, "DENIED") }
	return e.denied || e.StatusCode == http.StatusForbidden ||
		e.StatusCode == http.StatusUnauthorized && slices.ContainsFunc(e.Errors, said)
}

// Advice says what a program may do about the answer. It is what the message ends with, in brackets: a
// program that knows better advice for its users can take it out. It is empty where nothing is known, and
// where the answer is not the registry's.
func (e *StatusError) Advice() string {
	switch {
	case e.secure != "" && (e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden):
		return fmt.Sprintf("the registry redirects http to https: make %s the base URL; "+
			"no credentials were sent after the redirect, on purpose", e.secure)
	case e.elsewhere:
		return ""
	case e.isDenied(): // programs look for these words
		return "access denied: check the token and what it may do in this repository"
	case e.StatusCode == http.StatusUnauthorized: // and for these
		return "unauthorized: check the token and what it may do in this repository"
	case e.StatusCode == http.StatusNotFound:
		return "check the repository, and the tag or digest"
	}
	return ""
}

// Temporary reports whether the same request may succeed later: 408, 425, 429, 500, 502, 503 and 504 (RFC
// 9110 section 15), 520 to 524 and 530 of proxies, and 400 where an object store says RequestTimeout.
func (e *StatusError) Temporary() bool {
	errs := make([]wire.RegistryError, len(e.Errors))
	for i, r := range e.Errors {
		errs[i] = wire.RegistryError(r)
	}
	return wire.TemporaryAnswer(e.StatusCode, errs)
}

// BlobError says which blob an error is about. It wraps the cause.
type BlobError struct {
	Digest   string
	Op       string // "download" or "upload"
	Attempts int    // how often it was tried; 0 when it failed before the first request
	Err      error
}

func (e *BlobError) Error() string {
	if e.Attempts > 1 {
		return fmt.Sprintf("%s %s: %d attempts: %v", e.Op, e.Digest, e.Attempts, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Digest, e.Err)
}

func (e *BlobError) Unwrap() error { return e.Err }

// Blob is one blob to move.
type Blob struct {
	// Digest is the blob's digest, "sha256:" and 64 lower-case hexadecimal
	// digits; sha384 and sha512 are known too.
	Digest string

	// Size is the blob's size in bytes. A blob of size 0 is an empty file.
	Size int64

	// From is used by uploads only: a repository of the same registry from which
	// the blob can be mounted instead of sent (OCI distribution spec, "Mounting
	// a blob from another repository"). The name of a model, such as "llama3.2" or
	// "registry.example/me/model:latest", stands for its repository. Where that is
	// none of this registry or the registry refuses, the blob is sent. Empty means
	// that nothing is mounted.
	From string
}

// DownloadOptions say what [Download] fetches and how.
type DownloadOptions struct {
	// Blobs are the blobs to fetch. A digest that is listed twice is fetched
	// once. With none, Download does nothing.
	Blobs []Blob

	// BaseURL is the registry: scheme, host and port, as in
	// "https://registry.example". A path, as in "https://example.com/registry", is
	// put before "/v2/" in every request, for registries that a proxy serves there.
	BaseURL string

	// DestDir is the directory that gets the blobs, each as "sha256-<hex>". It
	// is created where it does not exist.
	DestDir string

	// Repository is the repository's name, as in "library/model". Empty means
	// "library/_".
	Repository string

	// Concurrency is the most requests in flight at once, whether they ask or move
	// a body; see BodyConcurrency for the latter. Zero or less leaves it to the
	// package: it begins with few bodies and finds out how many are worth it, up to
	// DefaultDownloadConcurrency. Where the registry redirects, as many requests
	// again ask where their blobs are.
	Concurrency int

	// Progress is told how many of the total bytes are in place. Calls come one
	// at a time, never after Download has returned. The first tells what was
	// there already; the last one of a successful call is (total, total).
	// Completed falls only by bytes that had to be thrown away because they were
	// not the blob's. A panic in Progress ends the call and is raised again in its
	// caller. The call returns after the last call of Progress or, where that has
	// not returned a second after the context has ended, without waiting for it.
	// Nil means that nobody wants to know.
	Progress func(completed, total int64)

	// Client sends the requests. It is copied, never changed; its redirect policy
	// and its Timeout are not used, because this package follows redirects itself
	// and judges a transfer by its progress. Of an http.Transport that sets only
	// TLS, the copy has the dialer of the package's own client, and keeps as many
	// idle connections for a host as there are requests in flight. Nil means a
	// client of the package's own, which keeps to HTTP/1.1 so that bodies ride on
	// several connections.
	Client *http.Client

	// Token is the bearer token to start with. Empty means none.
	Token string

	// GetToken is asked for a new token when the registry answers 401, or 403 to a
	// push with a token that may only pull. However many requests are refused at
	// once, it is asked once for each challenge. It must return when its context
	// ends. Nil means that these are final.
	GetToken func(ctx context.Context, challenge AuthChallenge) (string, error)

	// Logger gets each answer, redirect and commit at level Debug, and what a
	// person should know at level Warn. Nil means silence.
	Logger *slog.Logger

	// UserAgent is the User-Agent of every request. Empty means the package's own.
	UserAgent string

	// StallTimeout is how long a request may go without one byte of
	// progress before it is given up and tried again. Zero means 10 s. The first
	// byte of a blob is waited for twice as long each time that none came.
	StallTimeout time.Duration

	// BodyConcurrency is the most bodies in flight at once, for weak links. Zero
	// means that the package decides, up to Concurrency.
	BodyConcurrency int

	// RetryTimeout is how long a blob is tried without one new byte before it is
	// given up: no attempt begins later, and one that has begun is ended by StallTimeout
	// alone. The time in which it waits for its turn is not counted. Zero means
	// 5 min. Permanent errors never wait.
	RetryTimeout time.Duration

	// MaxBytesPerSecond caps the speed of the whole call. Zero means no cap.
	MaxBytesPerSecond int64

	// Verify hashes the files that are already there, and fetches those anew that
	// are not what their digest says. Each stays until the right one takes its place.
	// By default a file of the right size under its final name is trusted.
	Verify bool

	// Mirrors are base URLs asked before BaseURL, in this order. Any failure
	// falls through to the next. They never see the token, and need not be
	// trusted, since the digest decides what is kept.
	Mirrors []string

	// Trace is told what happens to each blob. Nil means that nobody wants to know.
	Trace *Trace

	// Reuse are files that may hold parts of what is fetched, such as an earlier version of a model: of a
	// blob of more than 32 MiB that is a GGUF or safetensors file, only what they do not have is fetched.
	// They are read, not through links, and never written to. Whatever is wrong with them is no error.
	Reuse []string

	// Limiter caps the speed of all calls that have it, together. Where MaxBytesPerSecond is lower, that
	// rules. Nil means no cap but that.
	Limiter *Limiter
}

// UploadOptions say what [Upload] sends and how. The fields that
// [DownloadOptions] has too mean the same.
type UploadOptions struct {
	// Blobs are the blobs to send. A digest that is listed twice is sent once. With
	// none, only the manifest is sent, and Progress is not called.
	Blobs []Blob

	// BaseURL is the registry, as in "https://registry.example".
	BaseURL string

	// SrcDir is the directory that has the blobs, each as "sha256-<hex>".
	SrcDir string

	// Concurrency is the most requests in flight at once, whether they ask or move
	// a body; see BodyConcurrency for the latter. Zero or less leaves it to the
	// package: it begins with few bodies and finds out how many are worth it, up to
	// DefaultUploadConcurrency. Up to four times as many requests again ask whether
	// blobs are there, or wait for the answers to bodies that were sent.
	Concurrency int

	// Progress is told how many of the total bytes the registry has. See
	// [DownloadOptions.Progress].
	Progress func(completed, total int64)

	// Client sends the requests; see [DownloadOptions.Client].
	Client *http.Client

	// Token is the bearer token to start with. Empty means none.
	Token string

	// GetToken is asked for a new token; see [DownloadOptions.GetToken].
	GetToken func(ctx context.Context, challenge AuthChallenge) (string, error)

	// Logger gets what happens; nil means silence.
	Logger *slog.Logger

	// UserAgent is the User-Agent of every request. Empty means the package's own.
	UserAgent string

	// Manifest is pushed after every blob is in place, byte for byte. Its media
	// type is its mediaType field or, without one, told from its shape. Where it has
	// a subject and the registry has no referrers API, it is added to the list under
	// the referrers tag. What is no JSON object is refused before the first request.
	// Empty means that no manifest is pushed.
	Manifest []byte

	// ManifestRef is the tag or digest the manifest is pushed under. Empty means
	// that no manifest is pushed.
	ManifestRef string

	// Repository is the repository's name, as in "library/model". Empty means
	// "library/_", and that no manifest is pushed.
	Repository string

	// BodyConcurrency is the most bodies in flight at once, for weak links. Zero
	// means that the package decides, up to Concurrency.
	BodyConcurrency int

	// StallTimeout is how long a request may go without one byte of progress
	// before it is given up and tried again. Zero means 10 s. For the answer to a
	// body that was sent whole the registry has longer, by a second for each 16 MiB
	// of the blob, because many hash or copy it first, and each time that none came
	// twice as long as before.
	StallTimeout time.Duration

	// RetryTimeout is how long a blob is tried without one new byte before it is
	// given up; see [DownloadOptions.RetryTimeout]. Zero means 5 min.
	RetryTimeout time.Duration

	// MaxBytesPerSecond caps the speed of the whole call. Zero means no cap.
	MaxBytesPerSecond int64

	// Trace is told what happens to each blob. Nil means that nobody wants to know.
	Trace *Trace

	// Limiter caps the speed of all calls that have it, together. Where MaxBytesPerSecond is lower, that
	// rules. Nil means no cap but that.
	Limiter *Limiter
}

// options are the options that both directions have.
type options struct {
	op                  string
	blobs               []Blob
	baseURL, repository string
	mirrors             []string
	client              *http.Client
	token               string
	getToken            func(context.Context, AuthChallenge) (string, error)
	userAgent           string
	limits
	listeners
}

// limits are the options that bound a call.
type limits struct {
	concurrency, defaultConcurrency int
	bodyConcurrency                 int
	stallTimeout, retryTimeout      time.Duration
	maxBytesPerSecond               int64
	limiter                         *Limiter
}

// listeners are told how a call gets on.
type listeners struct {
	progress func(completed, total int64)
	logger   *slog.Logger
	trace    *Trace
}

// blob is a Blob that was checked.
type blob struct {
	digest digest.Digest
	size   int64
	from   []string     // each that the digest was listed with
	trace  *events.Blob // nil: nobody is told what happens to it
}

// call is one call of Download or Upload.
type call struct {
	options
	list        []blob // distinct, largest first
	total       int64  // the sum of their sizes
	registry    *wire.Registry
	mirrors     []*wire.Registry
	concurrency int
	started     time.Time

	shared
	progress *progressTracker
	tracer   *tracer // nil without a Trace
}

// shared is what all requests of a call share.
type shared struct {
	rate     *pace.Limiter
	bodies   *pace.BodyLimiter
	watchdog *watchdog.Watchdog
	exchange *exchange.Exchange
	retry    *retry.Loop
}

// newCall checks all options. It does no I/O.
func newCall(o options) (*call, error) {
	c := &call{options: o, started: time.Now()}
	c.repository = cmp.Or(o.repository, defaultRepository)
	c.retryTimeout = cmp.Or(o.retryTimeout, defaultRetryTimeout)
	c.stallTimeout = cmp.Or(o.stallTimeout, defaultStallTimeout)
	c.logger = cmp.Or(o.logger, slog.New(slog.DiscardHandler))
	var err error
	c.registry, c.mirrors, err = calls.Places(c.baseURL, c.repository, o.mirrors)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidOption, err)
	}
	err = cmp.Or(wire.CheckHeader("Token", o.token), wire.CheckHeader("UserAgent", o.userAgent))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidOption, err)
	}
	if o.stallTimeout < 0 || o.retryTimeout < 0 || o.maxBytesPerSecond < 0 {
		return nil, fmt.Errorf("%w: a timeout or a limit is negative", ErrInvalidOption)
	}
	if err := c.checkBlobs(); err != nil {
		return nil, err
	}
	c.concurrency = limit(o.concurrency, o.defaultConcurrency, maxConcurrency)
	return c, nil
}

// limit returns n, or the default where n is not positive, and at most highest.
func limit(n, byDefault, highest int) int {
	if n <= 0 {
		n = byDefault
	}
	return min(n, highest)
}

// requests is the most requests in flight at once.
func (c *call) requests() int {
	if c.limits.concurrency > 0 {
		return c.concurrency
	}
	return askingAhead * c.concurrency
}

func (c *call) checkBlobs() error {
	seen := make(map[digest.Digest]int, len(c.blobs)) // where in the list
	c.list = make([]blob, 0, len(c.blobs))
	for _, b := range c.blobs {
		dg := digest.Digest(b.Digest)
		if err := dg.Validate(); err != nil {
			return fmt.Errorf("%w %.100q: %w", ErrInvalidDigest, b.Digest, err)
		}
		at, twice := seen[dg]
		switch {
		case b.Size < 0:
			return fmt.Errorf("%w %s: negative size %d", ErrInvalidBlob, dg, b.Size)
		case twice && c.list[at].size != b.Size:
			return fmt.Errorf("%w %s: listed with sizes %d and %d",
				ErrInvalidBlob, dg, c.list[at].size, b.Size)
		case twice:
			c.list[at].from = append(c.list[at].from, b.From)
			continue
		case c.total > math.MaxInt64-b.Size:
			return fmt.Errorf("%w %s: the sizes add up to more than an int64 holds", ErrInvalidBlob, dg)
		}
		seen[dg] = len(c.list)
		c.total += b.Size
		c.list = append(c.list, blob{digest: dg, size: b.Size, from: []string{b.From}})
	}
	slices.SortStableFunc(c.list, func(a, b blob) int { return cmp.Compare(b.size, a.size) })
	return nil
}

// These end a call whose callback panicked.
var (
	errProgressPanicked = errors.New("progress callback panicked")
	errTracePanicked    = errors.New("trace function panicked")
)

// run makes one call: it checks the options, calls move, and releases everything.
func run(ctx context.Context, o options, move func(context.Context, *call) error) error {
	if ctx == nil {
		return fmt.Errorf("%w: nil context", ErrInvalidOption)
	}
	c, err := newCall(o)
	if err != nil {
		return err
	}
	caller := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	release := c.open(ctx, cancel)
	err = move(ctx, c)
	cancel(nil)
	release()
	panicked, err := c.tracer.finish(err)
	if p := c.progress.finish(caller); p != nil {
		panicked = p
	}
	if panicked != nil {
		panic(panicked)
	}
	if err == nil && c.progress.abandoned.Load() {
		err = context.Cause(caller) // Progress was not told that all is there
	}
	err = calls.Ended(caller, err)
	c.summary(err)
	return err
}

// open makes what the requests share. Call release after the context has ended.
func (c *call) open(ctx context.Context, cancel context.CancelCauseFunc) (release func()) {
	c.rate = pace.New(c.maxBytesPerSecond).Within(c.limiter.shared())
	most := limit(c.bodyConcurrency, c.concurrency, c.concurrency)
	c.bodies = pace.NewBodyLimiter(most, c.bodyConcurrency > 0)
	c.watchdog = watchdog.New(c.stallTimeout, c.rate)
	c.progress = newProgressTracker(c.total, c.listeners.progress, func() { cancel(errProgressPanicked) })
	if c.trace != nil {
		c.tracer = newTracer(c.trace, c.list, c.op, func() { cancel(errTracePanicked) })
	}
	client := wire.NewClient(c.client, cmp.Or(c.userAgent, defaultUserAgent), c.requests())
	x, end := calls.Open(ctx, exchange.Config{
		Registry: c.registry, Client: client, Log: c.logger,
		Watchdog: c.watchdog, Bodies: c.bodies, Rate: c.rate,
	}, c.token, challenged(c.getToken))
	c.exchange, c.retry = x, newLoop(x, c.bodies, c.logger)
	return func() {
		end()
		client.Close()
	}
}

func (c *call) summary(err error) {
	level := slog.LevelDebug
	if err != nil {
		level = slog.LevelWarn
	}
	c.logger.LogAttrs(context.Background(), level, c.op+" ended", slog.Int("blobs", len(c.list)),
		slog.Int64("completed", c.progress.completed.Load()), slog.Int64("total", c.total),
		slog.Duration("elapsed", time.Since(c.started)), slog.Any("error", err))
}

func init() { calls.NewStatusError = statusError }

// statusError makes the error of an answer that is a failure.
func statusError(f exchange.Failure) error {
	e := &StatusError{
		Method: f.Method, URL: f.URL, StatusCode: f.Status,
		elsewhere: f.Elsewhere, denied: f.Denied, secure: f.Secure,
	}
	for _, r := range f.Errors {
		e.Errors = append(e.Errors, RegistryError(r))
	}
	return e
}

func (c *call) blobError(b blob, budget *retry.Budget, err error) error {
	if err == nil {
		return nil
	}
	failed := &BlobError{Digest: b.digest.String(), Op: c.op, Attempts: budget.Attempts(), Err: err}
	if _, other := errors.AsType[*BlobError](err); !other { // whose failure has ended the call
		b.trace.Fail(failed)
	}
	return failed
}

// digestToPath returns the file name of a blob: its digest with a dash for the colon. It keeps its name: the
// tests of programs that have a copy of this package use it.
func digestToPath(dg string) string {
	return strings.Replace(dg, ":", "-", 1)
}
