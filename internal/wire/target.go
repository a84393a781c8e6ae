// Package wire is one HTTP exchange with a registry: where it may go, what it may carry, and how much of
// the answer is read.
package wire

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/challenge"
)

// ErrRedirectRefused is the error of a redirect, an upload Location or a token realm that leads to
// where no request is sent.
var ErrRedirectRefused = errors.New("redirect refused")

// Registry is a base URL that was checked.
type Registry struct {
	base    *url.URL
	api     *url.URL // of its version 2
	trusted bool     // gets the token
	ns      string   // the host whose blobs a mirror is asked for

	reach  func() reach  // of the base URL's host; it may ask the network, once
	dialed *atomic.Int32 // 1 + reach of the address at which a caller's dialer found the registry, 0: unknown
}

const exampleURL = "https://registry.example"

// ParseRegistry checks the base URL of a registry: absolute, http or https, with
// a host, perhaps a path prefix, and nothing else. A trailing slash is trimmed.
func ParseRegistry(raw string) (*Registry, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's error quotes it, password and all.
		return nil, errors.New("malformed base URL; one is " + exampleURL)
	}
	switch {
	case raw == "":
		return nil, errors.New("no base URL")
	case !isHTTP(u):
		const wrong = "base URL %q: the scheme must be http or https, as in %s"
		return nil, fmt.Errorf(wrong, Redact(u), exampleURL)
	case u.Hostname() == "": // as of an opaque one
		return nil, fmt.Errorf("base URL %q has no host", Redact(u))
	case u.User != nil:
		return nil, fmt.Errorf("base URL %q has a user name in it: give a token instead", Redact(u))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("base URL %q has a query or a fragment", Redact(u))
	case path.Base(u.Path) == "v2":
		return nil, fmt.Errorf("base URL %q: leave out \"v2\", which is put after it", Redact(u))
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/")+"/", strings.TrimRight(u.RawPath, "/")+"/"
	_ = canonicalize(u) // the user may have a resolver for names that nobody else has
	r := &Registry{base: u, api: u.JoinPath("v2/"), trusted: true, dialed: new(atomic.Int32)}
	r.reach = sync.OnceValue(func() reach { return resolveReach(u.Hostname()) })
	return r, nil
}

// Mirror returns the registry as a mirror of the other one: it never sees the
// token, and is told whose blobs it is asked for (the ns parameter that
// containerd made common).
func (r *Registry) Mirror(of *Registry) *Registry {
	m := *r
	m.trusted, m.ns, m.dialed = false, of.base.Host, new(atomic.Int32)
	return &m
}

// Host returns the registry's host and port as in the base URL.
func (r *Registry) Host() string { return r.base.Host }

// Blob returns where a blob is.
func (r *Registry) Blob(repository string, dg digest.Digest) Target {
	return r.target(url.Values{}, repository+"/blobs/"+dg.String())
}

// Uploads returns where uploads begin.
func (r *Registry) Uploads(repository string, query url.Values) Target {
	return r.target(query, repository+"/blobs/uploads/")
}

// Manifest returns where a manifest is, by tag or digest.
func (r *Registry) Manifest(repository, reference string) Target {
	return r.target(url.Values{}, repository+"/manifests/"+reference)
}

// target returns the target of a path within the API. All parts of the path were checked, and have nothing
// to escape.
func (r *Registry) target(query url.Values, path string) Target {
	u := *r.api
	u.Path += path
	if u.RawPath != "" {
		u.RawPath += path
	}
	if r.ns != "" {
		query.Set("ns", r.ns)
	}
	u.RawQuery = query.Encode()
	return Target{URL: &u, Left: !r.trusted, registry: r}
}

// Target is a URL in a chain of requests that began at a registry.
type Target struct {
	URL *url.URL

	// Left says that the chain has left the registry's origin, and so goes on
	// without credentials, even where it leads back.
	Left bool

	registry *Registry
}

// Resolve follows a Location header (RFC 9110 section 10.2.2). Any error is ErrRedirectRefused: there is
// no Location or a malformed one, its scheme is not http or https, it leaves https for http, it has a
// user name, or its host is an address of this machine or link although the registry's is not.
func (t Target) Resolve(location string) (Target, error) {
	if location == "" {
		return t, fmt.Errorf("%w: %s answered without a Location", ErrRedirectRefused, Redact(t.URL))
	}
	u, err := t.URL.Parse(escapeLocation(location))
	if err != nil || strings.ContainsFunc(location, isControl) {
		return t, fmt.Errorf("%w: %s answered with a malformed Location", ErrRedirectRefused, Redact(t.URL))
	}
	refuse := func(why string) (Target, error) {
		return t, fmt.Errorf("%w: %s leads to %s: %s", ErrRedirectRefused, Redact(t.URL), Redact(u), why)
	}
	switch {
	case !isHTTP(u):
		return refuse("the scheme is not http or https")
	case u.Hostname() == "": // as of an opaque one
		return refuse("no host")
	case u.User != nil:
		return refuse("a user name in the URL")
	case t.URL.Scheme == "https" && u.Scheme == "http":
		return refuse("https is not left for http" + t.downgradeHint(u))
	case !sameHost(u, t.registry.base) && canonicalize(u) != nil:
		return refuse("the host is malformed")
	}
	if !t.registry.mayReach(literalReach(u.Hostname())) {
		return refuse(reachRefused)
	}
	u.Fragment, u.RawFragment = "", ""
	return Target{URL: u, Left: t.Left || !sameOrigin(u, t.registry.base), registry: t.registry}, nil
}

// reachRefused says why an address is refused.
const reachRefused = "an address of this machine or link, while the registry is elsewhere"

// atHome reports whether the target is at the registry's origin.
func (t Target) atHome() bool { return sameOrigin(t.URL, t.registry.base) }

// Host returns the host and port of the URL, "" of the zero target.
func (t Target) Host() string {
	if t.IsZero() {
		return ""
	}
	return t.URL.Host
}

// IsZero reports whether the target is none.
func (t Target) IsZero() bool { return t.URL == nil }

// Realm returns the token server that a challenge of the target names: a URL, or a path at the target. The
// rules are those of a redirect.
func (t Target) Realm(realm string) (Target, error) {
	if !challenge.NamesServer(realm) {
		return Target{}, fmt.Errorf(
			"%w: the realm %.100q of the registry's challenge is not an http or https URL",
			ErrRedirectRefused, realm)
	}
	server, err := t.Resolve(realm)
	if err != nil {
		return Target{}, fmt.Errorf("realm of the registry's challenge: %w", err)
	}
	return server, nil
}

// WithQuery returns the target with a query parameter added. The rest of the query stays as it is, byte
// by byte: it may be the state of an upload session.
func (t Target) WithQuery(key, value string) Target {
	u := *t.URL
	add := url.QueryEscape(key) + "=" + url.QueryEscape(value)
	if u.RawQuery != "" {
		add = u.RawQuery + "&" + add
	}
	u.RawQuery = add
	t.URL = &u
	return t
}

// sameOrigin compares scheme, host and port (RFC 6454 section 5).
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && sameHost(a, b) && port(a) == port(b)
}

func sameHost(a, b *url.URL) bool { return strings.EqualFold(a.Hostname(), b.Hostname()) }

func isHTTP(u *url.URL) bool { return u.Scheme == "http" || u.Scheme == "https" }

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// mayReach reports whether the registry may send a client to an address.
func (r *Registry) mayReach(to reach) bool {
	return to == reachAny || to == r.reach()
}

// mayDial reports whether the registry may send a client to the address that a name stands for.
func (r *Registry) mayDial(to reach) bool {
	return to == reachAny || int32(to)+1 == r.dialed.Load() || to == r.reach()
}
