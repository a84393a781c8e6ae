// Package wire is one HTTP exchange with a registry: where it may go, what it may carry, how much of the answer is read.
package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// ErrRedirectRefused means that a redirect or an upload Location led where this
// package does not go.
var ErrRedirectRefused = errors.New("redirect refused")

// Registry is a base URL that was checked.
type Registry struct {
	base    *url.URL
	trusted bool
	ns      string
	reach   func() reach
}

// ParseRegistry checks the base URL of a registry: absolute, http or https, with
// a host, perhaps a path prefix, and nothing else. A trailing slash is trimmed.
func ParseRegistry(raw string) (*Registry, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("malformed base URL") // the parser's error quotes it, password and all
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("base URL %q: the scheme must be http or https", Redact(u))
	case u.Hostname() == "": // as of an opaque one
		return nil, fmt.Errorf("base URL %q has no host", Redact(u))
	case u.User != nil:
		return nil, fmt.Errorf("base URL %q has a user name in it: give a token instead", Redact(u))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("base URL %q has a query or a fragment", Redact(u))
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/")+"/", strings.TrimRight(u.RawPath, "/")+"/"
	r := &Registry{base: u, trusted: true}
	r.reach = sync.OnceValue(func() reach { return resolveReach(u.Hostname()) })
	return r, nil
}

// Mirror returns the registry as a mirror of the other one: it never sees the
// token, and is told whose blobs it is asked for (the ns parameter that
// containerd made common).
func (r *Registry) Mirror(of *Registry) *Registry {
	m := *r
	m.trusted, m.ns = false, of.base.Host
	return &m
}

// Host is the registry's host and port, as in the base URL.
func (r *Registry) Host() string { return r.base.Host }

// Blob is where a blob is.
func (r *Registry) Blob(repository string, dg digest.Digest) Target {
	return r.target(url.Values{}, repository, "blobs", dg.String())
}

// Uploads is where uploads begin.
func (r *Registry) Uploads(repository string, query url.Values) Target {
	return r.target(query, repository, "blobs/uploads/")
}

// Manifest is where a manifest is, by tag or digest.
func (r *Registry) Manifest(repository, reference string) Target {
	return r.target(url.Values{}, repository, "manifests", reference)
}

func (r *Registry) target(query url.Values, elem ...string) Target {
	u := r.base.JoinPath(append([]string{"v2"}, elem...)...)
	if r.ns != "" {
		query.Set("ns", r.ns)
	}
	u.RawQuery = query.Encode()
	return Target{URL: u, Left: !r.trusted, registry: r}
}

// Target is a URL in a chain of requests that began at a registry.
type Target struct {
	URL *url.URL

	// Left says that the chain has left the registry's origin, and so goes on
	// without credentials, even where it leads back.
	Left bool

	registry *Registry
}

// Resolve follows a Location header (RFC 9110 section 10.2.2). The error, if
// any, is ErrRedirectRefused: no or a malformed Location, another scheme than
// http and https, https left for http, a user name, or a host that only this
// machine can mean though the registry is elsewhere.
func (t Target) Resolve(location string) (Target, error) {
	if location == "" {
		return t, fmt.Errorf("%w: %s answered without a Location", ErrRedirectRefused, Redact(t.URL))
	}
	u, err := t.URL.Parse(location)
	if err != nil {
		return t, fmt.Errorf("%w: %s answered with a malformed Location", ErrRedirectRefused, Redact(t.URL))
	}
	refuse := func(why string) (Target, error) {
		return t, fmt.Errorf("%w: %s leads to %s: %s", ErrRedirectRefused, Redact(t.URL), Redact(u), why)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("the scheme is not http or https")
	case u.Hostname() == "": // as of an opaque one
		return refuse("no host")
	case u.User != nil:
		return refuse("a user name in the URL")
	case t.URL.Scheme == "https" && u.Scheme == "http":
		return refuse("https is not left for http")
	}
	if !t.registry.mayReach(literalReach(u.Hostname())) {
		return refuse("an address of this machine or link, while the registry is elsewhere")
	}
	u.Fragment, u.RawFragment = "", ""
	return Target{URL: u, Left: t.Left || !sameOrigin(u, t.registry.base), registry: t.registry}, nil
}

// IsZero tells whether the target is none.
func (t Target) IsZero() bool { return t.URL == nil }

// CheckRealm reports whether a token realm may be asked by a client of the
// registry; the rules are those of a redirect.
func (r *Registry) CheckRealm(realm string) error {
	_, err := Target{URL: r.base, registry: r}.Resolve(realm)
	return err
}

// WithQuery returns the target with a query parameter set, and what else its
// query says kept as it is: upload sessions hide their state there.
func (t Target) WithQuery(key, value string) Target {
	u := *t.URL
	add := url.Values{key: {value}}.Encode()
	if u.RawQuery != "" {
		add = u.RawQuery + "&" + add
	}
	u.RawQuery = add
	t.URL = &u
	return t
}

// sameOrigin compares scheme, host and port (RFC 6454 section 5).
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

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

// reach tells who can mean an address: anybody, or only somebody on the same
// machine or link, to whom a foreign server must not send us (a forged request
// from within, as to the metadata service of a cloud).
type reach int

const (
	reachAny reach = iota
	reachLink
	reachMachine
)

func (r *Registry) mayReach(to reach) bool {
	return to == reachAny || to == r.reach()
}

func addrReach(ip netip.Addr) reach {
	switch ip = ip.Unmap(); {
	case ip.IsLoopback(), ip.IsUnspecified():
		return reachMachine
	case ip.IsLinkLocalUnicast(), ip.IsMulticast():
		return reachLink
	default:
		return reachAny
	}
}

// literalReach judges a host without asking the network.
func literalReach(host string) reach {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return reachMachine
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return reachAny
	}
	return addrReach(ip)
}

// resolveReach is literalReach for the registry itself, whose name may stand for this machine.
func resolveReach(host string) reach {
	if r := literalReach(host); r != reachAny {
		return r
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return reachAny
	}
	return addrReach(ips[0])
}
