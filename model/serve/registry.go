// Package serve is a small OCI registry that keeps all it has in a directory, for a local network and for
// tests: a handler that a program mounts. Blobs are shared between its repositories. It knows no users:
// whoever reaches it may push, unless it is read-only. Bodies that fall silent, uploads that nobody ends and
// pages of other sites are dealt with here; the head of a request is up to the server:
//
//	registry, err := serve.Open(dir, serve.Options{})
//	server := http.Server{Addr: "127.0.0.1:5000", Handler: registry, ReadHeaderTimeout: time.Minute}
//
// The directory has:
//
//	blobs/sha256/<hex>                       blobs and manifests
//	repositories/<name>/_manifests/<digest>  the media type of a manifest
//	repositories/<name>/_tags/<tag>          the digest of a manifest
//	uploads/<id>                             what has arrived of a blob
//	lock                                     is locked while a registry writes
package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// maxManifest is the largest manifest that is taken, as in the reference implementation.
const maxManifest = 4 << 20 // 4 MiB

var (
	namePattern = regexp.MustCompile(
		`^[0-9A-Za-z_]+([._-]*[0-9A-Za-z_]+)*(/[0-9A-Za-z_]+([._-]*[0-9A-Za-z_]+)*)*$`,
	)
	tagPattern = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$`)

	// routes, the longest first: a name may have "blobs" in it.
	uploadPath   = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/([0-9a-f]{32})?$`)
	blobPath     = regexp.MustCompile(`^/v2/(.+)/blobs/([^/]+)$`)
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
	referrerPath = regexp.MustCompile(`^/v2/(.+)/referrers/([^/]+)$`)
	tagsPath     = regexp.MustCompile(`^/v2/(.+)/tags/list$`)
)

// maxName is the longest name of a repository.
const maxName = 255

// Options say how a registry serves. The zero value serves and takes.
type Options struct {
	// ReadOnly refuses all that would change the directory.
	ReadOnly bool

	// Hosts are further names under which it may be asked on a loopback address. There it answers only to
	// names and addresses of this machine and of private networks: a web page can give any other name the
	// address 127.0.0.1 and ask as if it were of the same site.
	Hosts []string
}

// Registry is the registry of a directory, and an [http.Handler] at the root of a host: its paths begin with
// /v2/. [Open] opens it, and Close must come after the last request has ended.
type Registry struct {
	opts    Options
	store   store
	uploads *uploads
	lock    *os.File // nil where it is read-only
	alone   bool     // the lock holds: nobody else writes
}

var _ http.Handler = (*Registry)(nil)

// Open opens the registry of a directory and, unless it is to be read-only, makes it where it is missing,
// locks it until [Registry.Close], and removes uploads that nobody has continued for a week. The error is
// [ErrBusy] where another registry writes to the directory, and [ErrOther].
func Open(dir string, o Options) (*Registry, error) {
	r := &Registry{opts: o, store: newStore(dir), uploads: newUploads(filepath.Join(dir, "uploads"))}
	if err := errors.Join(checkDir(dir), r.store.trusted("")); err != nil {
		return nil, err
	}
	if o.ReadOnly {
		_, err := os.ReadDir(dir)
		return r, err
	}
	for _, sub := range []string{"blobs", "repositories", "uploads"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o777); err != nil {
			return nil, err
		}
	}
	var err error
	if r.lock, r.alone, err = acquire(dir); err != nil {
		return nil, err
	}
	if err := r.uploads.sweep(maxUploadAge); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// ErrOther is a directory that holds something else than a registry.
var ErrOther = errors.New("neither empty nor a directory of serve")

func checkDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return nil // what cannot be made or read is told by who makes it
	}
	if info, err := os.Stat(filepath.Join(dir, "repositories")); err == nil && info.IsDir() {
		return nil
	}
	return fmt.Errorf("%s: %w", dir, ErrOther)
}

// ServeHTTP answers a request.
func (r *Registry) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	w := newTimedWriter(rw)
	defer w.extend() // the last of it is sent when this has returned
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff") // nothing that was pushed is a page or a script
	if why := refusal(req, r.opts.Hosts); why != "" {
		refuse(w, http.StatusForbidden, "DENIED", why)
		return
	}
	if r.opts.ReadOnly && req.Method != http.MethodGet && req.Method != http.MethodHead {
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only")
		return
	}
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = newTimedBody(rw, req.Body)
	}
	r.route(w, req)
}

// route passes a request on to what is under its path.
func (r *Registry) route(w http.ResponseWriter, req *http.Request) {
	path := req.URL.Path
	if path == "/v2/" || path == "/v2" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}\n"))
		return
	}
	if path == "/v2/_catalog" {
		r.catalog(w, req)
		return
	}
	for _, route := range []struct {
		pattern *regexp.Regexp
		serve   func(w http.ResponseWriter, req *http.Request, name, what string)
	}{
		{uploadPath, r.serveUpload}, {blobPath, r.serveBlob},
		{manifestPath, r.serveManifest}, {referrerPath, r.serveReferrers}, {tagsPath, r.serveTags},
	} {
		if m := route.pattern.FindStringSubmatch(path); m != nil {
			if !validName(m[1]) {
				refuse(w, http.StatusBadRequest, "NAME_INVALID", "malformed repository name")
				return
			}
			if err := r.store.trusted(m[1]); err != nil {
				fail(w, err)
				return
			}
			route.serve(w, req, m[1], slices.Concat(m, []string{""})[2])
			return
		}
	}
	refuse(w, http.StatusNotFound, "UNSUPPORTED", "there is nothing under this path")
}

// validName reports whether a repository's name can be a path: its parts that begin with an
// underscore and are names of this package's own directories are not.
func validName(name string) bool {
	if len(name) > maxName || !namePattern.MatchString(name) {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.EqualFold(part, "_manifests") || strings.EqualFold(part, "_tags") {
			return false
		}
	}
	return true
}

// refuse answers with an error as the OCI distribution spec has it.
func refuse(w http.ResponseWriter, status int, code, message string) {
	failure := map[string]string{"code": code, "message": message}
	body, err := json.Marshal(map[string]any{"errors": []any{failure}})
	if err != nil {
		body = nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// fail answers that this side is to blame. The message is for who runs the registry; the client is
// told no paths.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, syscall.ENOSPC) {
		status = http.StatusInsufficientStorage
	}
	refuse(w, status, "UNKNOWN", "the registry could not read or write its directory")
}
