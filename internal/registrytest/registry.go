// Package registrytest is an OCI registry in memory for tests, which can be told to
// fail in every way a network and a server can, and which records what it saw.
package registrytest

import (
	"bytes"
	_ "crypto/sha512" // for sha384 and sha512 digests
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Options say how a [Registry] behaves. The zero value is a registry like the
// reference implementation: it serves ranges, wants uploads in a session, and
// lets everyone in.
type Options struct {
	// SingleShot accepts POST with "?digest=" and a body. Otherwise such a POST
	// opens a session and its body is dropped.
	SingleShot bool

	// NoRange answers 200 with the whole blob to a Range request.
	NoRange bool

	// NoMount opens a session where a mount is asked for.
	NoMount bool

	// Redirect returns the base URL where GET requests for blobs are sent, with
	// their path and a "sig" query; "" means the blob is served. Nil serves all.
	// [To] makes one; [Registry.CDN] serves what is redirected.
	Redirect func(*http.Request) string

	// RedirectHead sends HEAD requests for blobs there too.
	RedirectHead bool

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

	// Ollama makes the registry take uploads as that of Ollama does. [Registry.ServeOllama] sets it.
	Ollama *Ollama

	// RelativeLocation gives Location headers without scheme and host.
	RelativeLocation bool

	// Token is the bearer token that every request must show. Empty means that
	// CheckToken decides.
	Token string

	// CheckToken says whether a request may pass. Nil means that all may.
	CheckToken func(*http.Request) bool

	// Challenge is the WWW-Authenticate header of a 401. Empty means a bearer
	// challenge whose realm is "/token" of this host, service "registry.test" and
	// the scope of the repository.
	Challenge string

	// MinChunk is announced as OCI-Chunk-Min-Length; only the last chunk of a
	// session may be smaller. Zero means no least size.
	MinChunk int64

	// MaxBody is the most bytes that a request of an upload may bring; 413 beyond. Zero means no limit.
	MaxBody int64

	// StrictState answers 404 to a session URL that is not the newest.
	StrictState bool

	// CheckManifest refuses a manifest that names blobs the repository does not
	// have, with 400 and a MANIFEST_BLOB_UNKNOWN for each.
	CheckManifest bool

	// NoReferrers is a registry without the referrers API.
	NoReferrers bool

	// Latency passes before each answer.
	Latency time.Duration

	// NoExpect answers 417 to a request that waits for "100 Continue".
	NoExpect bool

	// Before sees each request first; true means that it has answered.
	Before func(http.ResponseWriter, *http.Request) bool
}

// To returns a function for [Options.Redirect] that always returns base.
func To(base string) func(*http.Request) string {
	return func(*http.Request) string { return base }
}

// Registry is an OCI registry in memory. It is safe for concurrent use.
type Registry struct {
	*front

	mu       sync.Mutex // guards the fields that follow
	opts     Options
	blobs    map[digest.Digest][]byte
	known    map[digest.Digest][]byte // blobs that need not be hashed to know that they are right
	repos    map[string]*repository
	sessions map[string]*session
	opened   int // numbers the sessions
}

var _ http.Handler = (*Registry)(nil)

// repository is one name space of a registry.
type repository struct {
	blobs     map[digest.Digest]bool
	manifests map[digest.Digest]manifest
	tags      map[string]digest.Digest
}

// New returns an empty registry.
func New(opts Options) *Registry {
	return &Registry{
		front:    newFront(),
		opts:     opts,
		blobs:    map[digest.Digest][]byte{},
		known:    map[digest.Digest][]byte{},
		repos:    map[string]*repository{},
		sessions: map[string]*session{},
	}
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

// Put stores a blob in a repository and returns its digest. The registry keeps
// data.
func (reg *Registry) Put(repo string, data []byte) digest.Digest {
	d := digest.FromBytes(data)
	reg.store(repo, d, data)
	return d
}

// Expect has the registry compare an upload of that digest with data, which the digest is of. Uploads that
// are not the same are hashed, as all others are. The registry does not have the blob before it is uploaded.
func (reg *Registry) Expect(d digest.Digest, data []byte) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.known[d] = data
}

// Matches tells whether d is the digest of data.
func (reg *Registry) Matches(d digest.Digest, data []byte) bool {
	reg.mu.Lock()
	known, ok := reg.known[d]
	reg.mu.Unlock()
	return ok && bytes.Equal(known, data) || d.Algorithm().FromBytes(data) == d
}

// Blob returns a blob that some repository has or had. It must not be changed.
func (reg *Registry) Blob(d digest.Digest) ([]byte, bool) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	data, ok := reg.blobs[d]
	return data, ok
}

// Has reports whether that repository has the blob.
func (reg *Registry) Has(repo string, d digest.Digest) bool {
	_, ok := reg.blobOf(repo, d)
	return ok
}

// Replace makes the registry serve data under d, whatever the digest of data is, as a
// broken or hostile registry does.
func (reg *Registry) Replace(repo string, d digest.Digest, data []byte) { reg.store(repo, d, data) }

// Delete removes a blob from a repository.
func (reg *Registry) Delete(repo string, d digest.Digest) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	delete(reg.repo(repo).blobs, d)
}

// Manifest returns the manifest under a tag or digest.
func (reg *Registry) Manifest(repo, ref string) ([]byte, bool) {
	m, _, ok := reg.manifest(repo, ref)
	return m.data, ok
}

// Sessions returns how many uploads are open.
func (reg *Registry) Sessions() int {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return len(reg.sessions)
}

func (reg *Registry) store(repo string, d digest.Digest, data []byte) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.blobs[d] = data
	reg.repo(repo).blobs[d] = true
}

func (reg *Registry) blobOf(repo string, d digest.Digest) ([]byte, bool) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if !reg.repo(repo).blobs[d] {
		return nil, false
	}
	data, ok := reg.blobs[d]
	return data, ok
}

// repo returns a repository, which exists once it is named. mu is held.
func (reg *Registry) repo(name string) *repository {
	if reg.repos[name] == nil {
		reg.repos[name] = &repository{
			blobs:     map[digest.Digest]bool{},
			manifests: map[digest.Digest]manifest{},
			tags:      map[string]digest.Digest{},
		}
	}
	return reg.repos[name]
}

// ServeHTTP answers one request of the distribution API, or lets it fail as the
// script says whose turn it is.
func (reg *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reg.serve(w, r, reg.answer)
}

func (reg *Registry) answer(w http.ResponseWriter, r *http.Request) {
	opts := reg.options()
	if !pause(r, opts.Latency) {
		panic(http.ErrAbortHandler)
	}
	if opts.Before != nil && opts.Before(w, r) {
		return
	}
	if opts.NoExpect && r.Header.Get("Expect") != "" {
		w.WriteHeader(http.StatusExpectationFailed)
		return
	}
	c := &call{reg: reg, opts: opts, w: w, r: r, target: parseTarget(r.URL.Path)}
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
	kind string // "base", "blobs", "uploads", "manifests", "tags", "referrers" or ""
	repo string
	ref  string
}

func parseTarget(path string) target {
	if path == "/v2" || path == "/v2/" {
		return target{kind: "base"}
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return target{}
	}
	for _, kind := range []string{"blobs/uploads", "blobs", "manifests", "tags", "referrers"} {
		repo, ref, found := cutLast(rest, "/"+kind+"/")
		if found && repo != "" {
			return target{kind: strings.TrimPrefix(kind, "blobs/"), repo: repo, ref: ref}
		}
	}
	return target{}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+len(sep):], true
}
