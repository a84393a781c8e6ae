package registrytest

import (
	"net/http"
	"sync/atomic"
)

// CDN is the store behind a [Registry]: it serves the registry's blobs, and takes its uploads, under the same
// paths, without tokens and redirects. Its records and faults are its own.
type CDN struct {
	*front
	reg        *Registry
	refuseAuth atomic.Bool
}

var _ http.Handler = (*CDN)(nil)

// CDN returns a new store behind the registry, to be served on a host of its own
// and named in [Options.Redirect] or [Options.RedirectUploads].
func (reg *Registry) CDN() *CDN { return &CDN{front: newFront(), reg: reg} }

// RefuseAuth makes the store answer 400 to requests that bring an Authorization header, as object stores do.
func (cdn *CDN) RefuseAuth() { cdn.refuseAuth.Store(true) }

// ServeHTTP answers a request that the registry has redirected.
func (cdn *CDN) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cdn.serve(w, r, cdn.answer)
}

func (cdn *CDN) answer(w http.ResponseWriter, r *http.Request) {
	c := cdn.reg.call(w, r)
	switch {
	case cdn.refuseAuth.Load() && r.Header.Get("Authorization") != "":
		c.fail(http.StatusBadRequest, "DENIED", "more than one kind of authentication")
	case expired(r):
		failExpired(w, c.opts)
	case c.target.kind != "blobs" && c.target.kind != "uploads":
		c.fail(http.StatusNotFound, "BLOB_UNKNOWN", "no such object")
	default:
		c.route()
	}
}
