package main

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	defaultHost      = "registry.ollama.ai"
	defaultNamespace = "library"
	defaultTag       = "latest"
)

var (
	hostPattern       = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z])?)(:[0-9]{1,5})?$`)
	repositoryPattern = regexp.MustCompile(`^[0-9A-Za-z_]([0-9A-Za-z._-]*[0-9A-Za-z_])?(/[0-9A-Za-z_]([0-9A-Za-z._-]*[0-9A-Za-z_])?)*$`)
	tagPattern        = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$`)
)

var errCredentialsInReference = errors.New("a name or password does not belong in a reference; use --username")

// reference says which model on which registry.
type reference struct {
	scheme, host, repository string

	// tag is empty when only a digest was given.
	tag string

	// digest is empty when only a tag was given.
	digest digest.Digest
}

// parseReference reads a reference as the usage text describes it.
func parseReference(s string) (reference, error) {
	rest, r := s, reference{}
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		if scheme != "http" && scheme != "https" {
			return r, fmt.Errorf("reference %q: the scheme is neither http nor https", s)
		}
		r.scheme, rest = scheme, after
	}
	host, path, slash := strings.Cut(rest, "/")
	switch {
	case slash && strings.Contains(host, "@"):
		return r, errCredentialsInReference // not quoted: the password is in there
	case r.scheme != "", slash && isHost(host):
		r.host = host
	default:
		r.host, path = defaultHost, rest
		if !slash {
			path = defaultNamespace + "/" + rest
		}
	}
	if err := r.parsePath(path); err != nil {
		return r, fmt.Errorf("reference %q: %w", s, err)
	}
	if r.scheme == "" {
		r.scheme = defaultScheme(r.host)
	}
	return r, nil
}

func isHost(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:")
}

// parsePath reads what follows the host: repository, tag and digest.
func (r *reference) parsePath(path string) error {
	path, dg, hasDigest := strings.Cut(path, "@")
	repository, tag, hasTag := strings.Cut(path, ":")
	r.repository, r.tag, r.digest = repository, tag, digest.Digest(dg)
	if !hasTag && !hasDigest {
		r.tag = defaultTag
	}
	switch {
	case !hostPattern.MatchString(r.host):
		return fmt.Errorf("malformed host %q", r.host)
	case !repositoryPattern.MatchString(repository) || strings.Contains(repository, ".."):
		return fmt.Errorf("malformed repository %q", repository)
	case r.tag != "" && !tagPattern.MatchString(r.tag), hasTag && tag == "":
		return fmt.Errorf("malformed tag %q", tag)
	case hasDigest && r.digest.Validate() != nil:
		return fmt.Errorf("malformed digest %q", dg)
	}
	return nil
}

// defaultScheme is http for this machine itself, and https for all others.
func defaultScheme(host string) string {
	name := host
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		name = host[:i]
	}
	addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
	if name == "localhost" || err == nil && addr.IsLoopback() {
		return "http"
	}
	return "https"
}

func (r reference) baseURL() string { return r.scheme + "://" + r.host }

// version is what names the manifest in a URL: the digest where there is one.
func (r reference) version() string {
	if r.digest != "" {
		return r.digest.String()
	}
	return r.tag
}

func (r reference) String() string {
	s := r.baseURL() + "/" + r.repository
	if r.tag != "" {
		s += ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + r.digest.String()
	}
	return s
}
