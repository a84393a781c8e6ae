// Package ref reads references as people write them: which model on which registry.
//
//	all-minilm                              a model of Ollama's library
//	me/model:v1                             a model of somebody there
//	docker.io/me/model, ghcr.io/me/model    of another registry; the tag is latest
//	hf.co/me/Model-GGUF:Q4_K_M
//	localhost:5000/model@sha256:...         by its digest; over http, because it is this machine
//	http://registry.example/model:v1        over http
//	oci://registry.example/model:v1         as other programs write it; docker:// means the same
package ref

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	defaultHost      = "registry.ollama.ai"
	defaultNamespace = "library"
	defaultTag       = "latest"

	// dockerHub is where the API of Docker Hub is.
	dockerHub = "registry-1.docker.io"

	// dockerHubName is how people write it.
	dockerHubName = "docker.io"
)

var (
	hostPattern = regexp.MustCompile(
		`^(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z])?)(:[0-9]{1,5})?$`,
	)
	repositoryPattern = regexp.MustCompile(
		`^[0-9A-Za-z_]([0-9A-Za-z._-]*[0-9A-Za-z_])?(/[0-9A-Za-z_]([0-9A-Za-z._-]*[0-9A-Za-z_])?)*$`)
	tagPattern = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$`)

	// portPattern is a host name with a port, which no model's name with a tag looks like.
	portPattern = regexp.MustCompile(`^(localhost|[0-9A-Za-z.-]+\.[A-Za-z]{2,}):[0-9]{2,5}$`)
)

var (
	// ErrMalformed is what is no reference. The message says why.
	ErrMalformed = errors.New("malformed reference")

	// ErrCredentials is a reference with a user in it. It does not quote the reference, because the
	// password may be in there. It matches ErrMalformed.
	ErrCredentials error = malformed("a name or password does not belong in a reference")
)

// malformed is a message that matches ErrMalformed.
type malformed string

func (m malformed) Error() string      { return string(m) }
func (malformed) Is(target error) bool { return target == ErrMalformed }

func malformedf(format string, args ...any) error { return malformed(fmt.Sprintf(format, args...)) }

// Reference says which model on which registry. [Parse] returns one whose parts have been checked; the
// methods of another return what they can make of it.
type Reference struct {
	// Scheme is http or https, and Host the registry, with its port where it has one.
	Scheme, Host string

	// Repository is the name there, such as "library/model".
	Repository string

	// Tag is empty when only a digest was given.
	Tag string

	// Digest is empty when only a tag was given.
	Digest digest.Digest
}

// Parse reads a reference, with the tag "latest" where neither a tag nor a digest is given. The error matches
// [ErrMalformed].
func Parse(s string) (Reference, error) {
	r, err := ParseRepository(s)
	if err == nil && r.Tag == "" && r.Digest == "" {
		r.Tag = defaultTag
	}
	return r, err
}

// ParseRepository is [Parse] without a tag that was not given.
func ParseRepository(s string) (Reference, error) {
	rest, r := withoutKind(s), Reference{}
	if scheme, after, ok := strings.Cut(rest, "://"); ok {
		if scheme != "http" && scheme != "https" {
			return r, malformedf("reference %q: the scheme is neither http nor https", s)
		}
		r.Scheme, rest = scheme, after
	}
	host, path, slash := strings.Cut(rest, "/")
	switch {
	case slash && strings.Contains(host, "@"):
		return r, ErrCredentials
	case r.Scheme != "" && host != "" && path == "", !slash && isAddress(rest):
		return r, malformedf("reference %q names a registry but no repository; expected %s/NAME[:TAG]",
			s, host)
	case r.Scheme != "", slash && IsHost(host):
		r.Host = host
	default:
		r.Host, path = defaultHost, rest
		if !slash {
			path = defaultNamespace + "/" + rest
		}
	}
	r.Host, path = expandHub(r.Host, path)
	if err := r.parsePath(path); err != nil {
		return r, malformedf("reference %q: %v", s, err)
	}
	if r.Scheme == "" {
		r.Scheme = defaultScheme(r.Host)
	}
	return r, nil
}

// withoutKind leaves out what helm and skopeo write before a reference. It says what kind of thing has the
// name, and no scheme.
func withoutKind(s string) string {
	for _, kind := range []string{"oci://", "docker://"} {
		if rest, ok := strings.CutPrefix(s, kind); ok {
			return rest
		}
	}
	return s
}

// ParseRegistry reads a registry: a host with or without a scheme.
func ParseRegistry(s string) (Reference, error) {
	scheme, host, ok := strings.Cut(strings.TrimRight(withoutKind(s), "/"), "://")
	if !ok {
		scheme, host = "", scheme
	}
	host, _ = expandHub(host, "")
	switch {
	case strings.Contains(host, "@"):
		return Reference{}, ErrCredentials
	case !hostPattern.MatchString(host), ok && scheme != "http" && scheme != "https":
		return Reference{}, malformedf(
			"registry %q is not a host such as registry.example or localhost:5000", s)
	case !ok:
		scheme = defaultScheme(host)
	}
	return Reference{Scheme: scheme, Host: host}, nil
}

// expandHub replaces the aliases of Docker Hub and completes its short names.
func expandHub(host, path string) (string, string) {
	switch host {
	case dockerHubName, "index.docker.io", "www.docker.io", dockerHub:
	default:
		return host, path
	}
	if path != "" && !strings.Contains(path, "/") {
		path = defaultNamespace + "/" + path
	}
	return dockerHub, path
}

// IsHost tells whether a word before the first slash is a host.
func IsHost(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:")
}

// knownRegistries are names of registries without a port; other words with a dot may be models, such as
// "qwen2.5".
var knownRegistries = []string{
	dockerHubName, "index.docker.io", dockerHub, "ghcr.io", "quay.io", "gcr.io", "mcr.microsoft.com",
	"public.ecr.aws", "registry.gitlab.com", "hf.co", "ollama.com", defaultHost,
}

// isAddress tells whether a word without a slash is the address of a registry and not a model.
func isAddress(s string) bool {
	if slices.Contains(knownRegistries, s) {
		return true
	}
	_, withPort := netip.ParseAddrPort(s)
	_, bare := netip.ParseAddr(strings.Trim(s, "[]"))
	return withPort == nil || bare == nil || s == "localhost" || portPattern.MatchString(s)
}

// parsePath reads what follows the host: repository, tag and digest.
func (r *Reference) parsePath(path string) error {
	path, dg, hasDigest := strings.Cut(path, "@")
	repository, tag, hasTag := strings.Cut(path, ":")
	r.Repository, r.Tag, r.Digest = repository, tag, digest.Digest(dg)
	switch {
	case !hostPattern.MatchString(r.Host):
		return malformedf("malformed host %q", r.Host)
	case !repositoryPattern.MatchString(repository):
		return malformedf("malformed repository %q", repository)
	case r.Tag != "" && !tagPattern.MatchString(r.Tag), hasTag && tag == "":
		return malformedf("malformed tag %q", tag)
	case hasDigest && r.Digest.Validate() != nil:
		return malformedf("malformed digest %q", dg)
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

// BaseURL returns the URL of the registry.
func (r Reference) BaseURL() string { return r.Scheme + "://" + r.Host }

// Version returns what names the manifest: the digest where there is one.
func (r Reference) Version() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// WithDigest returns the reference of one manifest of the same repository.
func (r Reference) WithDigest(dg digest.Digest) Reference {
	r.Tag, r.Digest = "", dg
	return r
}

// Bare returns the reference of the repository.
func (r Reference) Bare() Reference {
	r.Tag, r.Digest = "", ""
	return r
}

// URL returns the reference with its scheme.
func (r Reference) URL() string {
	s := r.BaseURL() + "/" + r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// String returns the reference as a person writes it: without a scheme that goes without saying, and Docker
// Hub by its name.
func (r Reference) String() string { return r.short(r.URL()) }

// Registry returns the registry as a person writes it.
func (r Reference) Registry() string { return r.short(r.BaseURL()) }

func (r Reference) short(url string) string {
	if !IsHost(r.Host) || r.Scheme != defaultScheme(r.Host) {
		return url
	}
	url = strings.TrimPrefix(url, r.Scheme+"://")
	if r.Host == dockerHub {
		return dockerHubName + strings.TrimPrefix(url, dockerHub)
	}
	return url
}
