package push

import (
	"slices"
	"strings"

	"github.com/modeltransfer/transfer/internal/wire"
)

// repositories returns those of the registry with that host which the names of models, as their users wrote
// them, are reduced to, each once. Names of another host, or of no repository, are left out:
//
//	name                      library/name
//	name:tag                  library/name
//	namespace/name:tag        namespace/name
//	host/namespace/name:tag   namespace/name
//	name@sha256:...           library/name
func repositories(host string, names []string) (repositories []string) {
	for _, name := range names {
		if r := repositoryOf(host, name); r != "" && !slices.Contains(repositories, r) {
			repositories = append(repositories, r)
		}
	}
	return repositories
}

// repositoryOf returns an empty string where the name is of another host, or of no repository.
func repositoryOf(host, name string) string {
	if name == "" {
		return ""
	}
	name, _, _ = strings.Cut(name, "@")
	if scheme, rest, ok := strings.Cut(name, "://"); ok && (scheme == "http" || scheme == "https") {
		name = rest
		if !strings.Contains(name, "/") {
			return ""
		}
	}
	first, rest, nested := strings.Cut(name, "/")
	switch {
	case nested && strings.EqualFold(first, host):
		name = rest
	case nested && isHost(first, rest):
		return ""
	}
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		name = name[:at]
	}
	if !strings.Contains(name, "/") {
		name = "library/" + name
	}
	if wire.CheckRepository(name) != nil {
		return ""
	}
	return name
}

// isHost tells whether the first element of a name is a host: it has a port, or it looks like one and enough
// follows for a namespace and a name.
func isHost(first, rest string) bool {
	return strings.Contains(first, ":") || first == "localhost" ||
		strings.Contains(first, ".") && strings.Contains(rest, "/")
}
