// Package registrytest is an OCI registry in memory for tests, which can be told to
// fail in every way a network and a server can, and which records what it saw.
package registrytest

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options say how a [Registry] behaves. The zero value is a registry like the reference implementation: it
// serves ranges, wants uploads in a session, and lets everyone in.
type Options struct {
	// SingleShot accepts POST with "?digest=" and a body. Otherwise such a POST
	// opens a session and its body is dropped.
	SingleShot bool

	// NoRange answers 200 with the whole blob to a Range request.
	NoRange bool

	// NoMount opens a session where a mount is asked for.
	NoMount bool

	// Token is the bearer token that every request must show. Empty means that CheckToken decides.
	Token string

	// MaxBody is the most bytes that a request of an upload may bring; 413 beyond. Zero means no limit.
	MaxBody int64

	// CheckManifest refuses a manifest that names blobs the repository does not
	// have, with 400 and a MANIFEST_BLOB_UNKNOWN for each.
	CheckManifest bool

	// NoReferrers is a registry without the referrers API.
	NoReferrers bool

	// Latency passes before each answer.
	Latency time.Duration

	// Before sees each request first; true means that it has answered.
	Before func(http.ResponseWriter, *http.Request) bool

	Redirects
	Sessions
	Access
}

// Redirects say what is elsewhere, and for how long it is found there.
type Redirects struct {
	// Redirect returns the base URL where GET requests for blobs are sent, with their path and a "sig" query;
	// "" means the blob is served. Nil serves all. [To] makes one; [Registry.CDN] serves what is redirected.
	Redirect func(*http.Request) string

	// RedirectUploads returns the base URL where PUT and PATCH of sessions are
	// sent; see Redirect. [Registry.CDN] takes them.
	RedirectUploads func(*http.Request) string

	// RedirectStatus is the status of redirects. Zero means 307.
	RedirectStatus int

	// SignedFor is how long the signed URLs of redirects and of an Ollama registry are good. Zero means
	// for ever.
	SignedFor time.Duration

	// ExpiredStatus is what a store answers to a signed URL that has expired: 400 with the code ExpiredToken,
	// any other with AccessDenied. Zero means 403.
	ExpiredStatus int
}

// Sessions say how an upload goes on.
type Sessions struct {
	// StrictState answers 404 to a session URL that is not the newest.
	StrictState bool

	// RelativeLocation gives Location headers without scheme and host.
	RelativeLocation bool

	// MinChunk is announced as OCI-Chunk-Min-Length; only the last chunk of a
	// session may be smaller. Zero means no least size.
	MinChunk int64
}

// Access says who is let in where no Token is set.
type Access struct {
	// CheckToken says whether a request may pass. Nil means that all may.
	CheckToken func(*http.Request) bool

	// Challenge is the WWW-Authenticate header of a 401. Empty means a bearer challenge whose realm is
	// "/token" of this host, service "registry.test" and the scope of the repository.
	Challenge string
}

// To returns a function for [Options.Redirect] that always returns base.
func To(base string) func(*http.Request) string {
	return func(*http.Request) string { return base }
}

// Registry is an OCI registry in memory. It is safe for concurrent use.
type Registry struct {
	*front
	*storage

	mu       sync.Mutex // guards the fields that follow
	opts     Options
	ollama   *ObjectStore // nil: it takes bodies itself
	sessions map[string]*session
	opened   int // numbers the sessions
}

var _ http.Handler = (*Registry)(nil)

// New returns an empty registry.
func New(opts Options) *Registry {
	return &Registry{front: newFront(), storage: newStorage(), opts: opts, sessions: map[string]*session{}}
}

// Configure changes the options for the requests that come after it.
func (reg *Registry) Configure(change func(*Options)) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	change(&reg.opts)
}

func (reg *Registry) options() Options {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return reg.opts
}

// Sessions returns how many uploads are open.
func (reg *Registry) Sessions() int {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return len(reg.sessions)
}

// ServeHTTP answers one request of the distribution API, or lets it fail as the script says whose turn it is.
func (reg *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reg.serve(w, r, reg.answer)
}

func (reg *Registry) answer(w http.ResponseWriter, r *http.Request) {
	c := reg.call(w, r)
	if !pause(r, c.opts.Latency) {
		panic(http.ErrAbortHandler)
	}
	if c.opts.Before != nil && c.opts.Before(w, r) {
		return
	}
	if !c.authorized() {
		c.challenge()
		return
	}
	if !c.redirected() {
		c.route()
	}
}

// target is what a path of the distribution API names.
type target struct {
	kind string // "base", "blobs", "uploads", "manifests", "tags", "referrers", "catalog" or ""
	repo string
	ref  string
}

func parseTarget(path string) target {
	if path == "/v2" || path == "/v2/" {
		return target{kind: "base"}
	}
	if path == "/v2/_catalog" {
		return target{kind: "catalog"}
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return target{}
	}
	for _, kind := range []string{"blobs/uploads", "blobs", "manifests", "tags", "referrers"} {
		if i := strings.LastIndex(rest, "/"+kind+"/"); i > 0 {
			ref := rest[i+len(kind)+2:]
			return target{kind: strings.TrimPrefix(kind, "blobs/"), repo: rest[:i], ref: ref}
		}
	}
	return target{}
}
