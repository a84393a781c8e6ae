package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// call is one request on its way through a registry. What a kind of target is asked for is the business of a
// type of its own.
type call struct {
	reply
	reg    *Registry
	ollama *ObjectStore // nil: the registry takes bodies itself
	target target
}

func (reg *Registry) call(w http.ResponseWriter, r *http.Request) *call {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return &call{reply: reply{w, r, reg.opts}, reg: reg, ollama: reg.ollama, target: parseTarget(r.URL.Path)}
}

func (c *call) route() {
	switch c.target.kind {
	case "base":
		c.w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
		c.json("application/json", struct{}{})
	case "blobs":
		blobCall{c}.serve()
	case "uploads":
		uploadCall{c}.serve()
	case "manifests":
		manifestCall{c}.serve()
	case "tags":
		manifestCall{c}.tags()
	case "referrers":
		manifestCall{c}.referrers()
	case "catalog":
		c.catalog()
	default:
		c.fail(http.StatusNotFound, "NAME_UNKNOWN", "no such endpoint")
	}
}

func (c *call) authorized() bool {
	if c.opts.Token != "" {
		return c.r.Header.Get("Authorization") == "Bearer "+c.opts.Token
	}
	return c.opts.CheckToken == nil || c.opts.CheckToken(c.r)
}

func (c *call) challenge() {
	text := c.opts.Challenge
	if text == "" {
		scope := "repository:" + c.target.repo + ":pull,push"
		if c.target.kind == "catalog" {
			scope = "registry:catalog:*"
		}
		text = fmt.Sprintf(`Bearer realm=%q,service="registry.test",scope=%q`, c.base()+"/token", scope)
	}
	c.w.Header().Set("WWW-Authenticate", text)
	c.fail(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}

// redirected answers with a redirect where the options want one.
func (c *call) redirected() bool {
	where := c.redirect()
	if where == nil {
		return false
	}
	base := where(c.r)
	if base == "" {
		return false
	}
	query := c.r.URL.Query()
	query.Set("sig", "signed")
	expire(query, c.opts.SignedFor)
	status := c.opts.RedirectStatus
	if status == 0 {
		status = http.StatusTemporaryRedirect
	}
	c.w.Header().Set("Location", strings.TrimSuffix(base, "/")+c.r.URL.EscapedPath()+"?"+query.Encode())
	c.empty(status)
	return true
}

func (c *call) redirect() func(*http.Request) string {
	switch {
	case c.target.kind == "blobs" && c.r.Method == http.MethodGet:
		return c.opts.Redirect
	case c.ollama != nil: // it redirects uploads itself
		return nil
	case c.target.kind == "uploads" && (c.r.Method == http.MethodPut || c.r.Method == http.MethodPatch):
		return c.opts.RedirectUploads
	}
	return nil
}

// reply is what is said to one request.
type reply struct {
	w    http.ResponseWriter
	r    *http.Request
	opts Options
}

// base returns the URL of this host.
func (a *reply) base() string {
	if a.r.TLS != nil {
		return "https://" + a.r.Host
	}
	return "http://" + a.r.Host
}

func (a *reply) location(path string) {
	if !a.opts.RelativeLocation {
		path = a.base() + path
	}
	a.w.Header().Set("Location", path)
}

func (a *reply) empty(status int) {
	if status != http.StatusNoContent {
		a.w.Header().Set("Content-Length", "0")
	}
	a.w.WriteHeader(status)
}

func (a *reply) json(mediaType string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types of this package come here
	}
	a.send(http.StatusOK, mediaType, data)
}

func (a *reply) send(status int, mediaType string, data []byte) {
	a.w.Header().Set("Content-Type", mediaType)
	a.w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	a.w.WriteHeader(status)
	if a.r.Method != http.MethodHead {
		a.w.Write(data)
	}
}

// ociError is one entry of an error body.
type ociError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

func (a *reply) fail(status int, code, message string) {
	writeError(a.w, status, ociError{Code: code, Message: message})
}

func (a *reply) notAllowed() {
	a.fail(http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed here")
}

// writeError answers with an OCI error body. net/http leaves it out for HEAD.
func writeError(w http.ResponseWriter, status int, errs ...ociError) {
	data, err := json.Marshal(map[string][]ociError{"errors": errs})
	if err != nil {
		panic(err) // only types of this package come here
	}
	writeBody(w, status, "application/json", data)
}

func writeBody(w http.ResponseWriter, status int, mediaType string, data []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	w.Write(data)
}
