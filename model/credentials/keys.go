package credentials

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

const (
	// dockerHub is the registry of Docker Hub. Tools keep its credentials under other names.
	dockerHub = "registry-1.docker.io"

	// dockerHubKey is the name that Docker gives it.
	dockerHubKey = "https://index.docker.io/v1/"
)

// dockerHubNames are the names of Docker Hub that programs which keep credentials may know.
var dockerHubNames = []string{dockerHubKey, "docker.io", "index.docker.io", dockerHub}

// keyOf is the name under which a log-in to a host is kept.
func keyOf(host string) string {
	if canonical(host) == dockerHub {
		return dockerHubKey
	}
	return host
}

// canonical is the one name of a host that has several.
func canonical(host string) string {
	host = strings.ToLower(host)
	if host == "docker.io" || host == "index.docker.io" {
		return dockerHub
	}
	return host
}

// place is what the name of an entry stands for: a host or, where podman keeps one, a namespace.
type place struct{ host, namespace string }

// parseKey reads the name of an entry. Docker's old ones are URLs, of which only the host counts, and those
// of the API's versions; any other path is a namespace, as podman has them.
func parseKey(key string) place {
	rest, isURL := strings.CutPrefix(key, "https://")
	if !isURL {
		rest, isURL = strings.CutPrefix(key, "http://")
	}
	host, path, _ := strings.Cut(rest, "/")
	path = strings.Trim(path, "/")
	if isURL || path == "v1" || path == "v2" {
		path = ""
	}
	return place{canonical(host), path}
}

// covers tells whether a log-in to a place is one for a repository.
func (p place) covers(host, repository string) bool {
	return p.host == canonical(host) &&
		(p.namespace == "" || repository == p.namespace || strings.HasPrefix(repository, p.namespace+"/"))
}

// matching returns the names of a table that stand for a repository: the longest namespace first, then the
// name that Docker gives the host, then the others.
func matching[V any](table map[string]V, host, repository string) []string {
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(table)),
		func(key string) bool { return !parseKey(key).covers(host, repository) })
	rank := func(key string) int {
		if n := len(parseKey(key).namespace); n > 0 {
			return n + 1
		}
		if key == keyOf(host) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(rank(b), rank(a)) })
	return keys
}

// question is what a program that keeps credentials is asked.
type question struct{ helper, key string }

// helpersFor returns who is to be asked for the credentials of a repository, and for which name, in order.
func (c *config) helpersFor(host, repository string) (all []question) {
	for _, key := range matching(c.helpers, host, repository) {
		all = append(all, question{c.helpers[key], keyOf(host)})
		if key != keyOf(host) {
			all = append(all, question{c.helpers[key], key})
		}
	}
	switch {
	case len(all) > 0 || c.store == "":
		return all
	case canonical(host) != dockerHub:
		return []question{{c.store, keyOf(host)}}
	}
	for _, name := range dockerHubNames {
		all = append(all, question{c.store, name})
	}
	return all
}

// entriesFor returns the entries of the file that stand for a repository, the best first. In a file of
// Docker's, where there are no namespaces, any path behind the host counts for nothing.
func (c *config) entriesFor(host, repository string) []string {
	keys := matching(c.auths, host, repository)
	if !c.docker || canonical(host) == dockerHub {
		return keys
	}
	for _, key := range slices.Sorted(maps.Keys(c.auths)) {
		if parseKey(key).host == canonical(host) && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// helper returns the program that keeps the credentials of a key, or "".
func (c *config) helper(key string) string {
	if names := matching(c.helpers, parseKey(key).host, ""); len(names) > 0 {
		return c.helpers[names[0]]
	}
	return c.store
}
