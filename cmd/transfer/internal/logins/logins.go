// Package logins finds and keeps credentials where Docker, oras, crane and podman do.
package logins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/modeltransfer/transfer/registry"
)

// ErrUnreadable is credentials that are there and cannot be read.
var ErrUnreadable = errors.New("credentials cannot be read")

// ErrNone is a log-out from a registry for which nothing is kept.
var ErrNone = errors.New("no credentials are kept for it")

// dockerHub is the registry of Docker Hub. Tools keep its credentials under other names.
const dockerHub = "registry-1.docker.io"

// Files are the configuration files in which credentials are kept.
type Files struct {
	docker string   // "" where there is no home directory
	podman []string // in the order in which they are read

	// Warn is told of what is passed over.
	Warn func(message string)
}

// Find returns the files that the environment names.
func Find(getenv func(string) string) Files {
	home := getenv("HOME")
	if home == "" && runtime.GOOS == "windows" {
		home = getenv("USERPROFILE")
	}
	f := Files{Warn: func(string) {}}
	switch dir := getenv("DOCKER_CONFIG"); {
	case dir != "":
		f.docker = filepath.Join(dir, "config.json")
	case home != "":
		f.docker = filepath.Join(home, ".docker", "config.json")
	}
	if path := getenv("REGISTRY_AUTH_FILE"); path != "" {
		f.podman = append(f.podman, path)
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		f.podman = append(f.podman, filepath.Join(dir, "containers", "auth.json"))
	}
	switch config := getenv("XDG_CONFIG_HOME"); {
	case config != "":
		f.podman = append(f.podman, filepath.Join(config, "containers", "auth.json"))
	case home != "":
		f.podman = append(f.podman, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	return f
}

// Get returns the credentials for a repository of a registry, and zero where none are kept. The
// first file that has some decides. No error has a secret in it.
func (f Files) Get(ctx context.Context, host, repository string) (registry.Credentials, error) {
	for _, path := range append([]string{f.docker}, f.podman...) {
		if path == "" {
			continue
		}
		c, err := f.read(ctx, path, host, repository)
		if err != nil || c != (registry.Credentials{}) {
			return c, err
		}
	}
	return registry.Credentials{}, nil
}

// read looks into one file.
func (f Files) read(ctx context.Context, path, host, repository string) (registry.Credentials, error) {
	kept, err := readEntries(path)
	if err != nil || kept.empty() {
		return registry.Credentials{}, err
	}
	store, err := credentials.NewStore(path, credentials.StoreOptions{})
	if err != nil {
		return registry.Credentials{}, malformed(path)
	}
	for _, key := range keys(host, repository) {
		if !kept.mayHave(key) {
			continue
		}
		c, err := store.Get(ctx, key)
		if err == nil && c == auth.EmptyCredential {
			continue
		}
		if err == nil {
			return convert(path, key, c)
		}
		if _, there := kept.Auths[key]; kept.helper(key) == "" {
			return registry.Credentials{}, fmt.Errorf("%w: %s: malformed entry of %s", ErrUnreadable, path, key)
		} else if !there && kept.Helpers[key] == "" && errors.Is(err, exec.ErrNotFound) {
			f.Warn(fmt.Sprintf("%s names docker-credential-%s, which is not installed; going on without credentials",
				path, kept.helper(key)))
			return registry.Credentials{}, nil
		}
		return registry.Credentials{}, fmt.Errorf("%w: %s: docker-credential-%s, asked for %s: %w",
			ErrUnreadable, path, kept.helper(key), key, err)
	}
	return registry.Credentials{}, nil
}

// convert keeps what package registry knows.
func convert(path, key string, c auth.Credential) (registry.Credentials, error) {
	if c.AccessToken != "" && c.RefreshToken == "" && c.Username == "" {
		return registry.Credentials{}, fmt.Errorf(
			"%w: %s: the entry of %s is a registrytoken; log in again", ErrUnreadable, path, key,
		)
	}
	password := strings.TrimRight(c.Password, "\x00") // some tools pad
	return registry.Credentials{Username: c.Username, Password: password, IdentityToken: c.RefreshToken}, nil
}

// keys are the names under which credentials for a repository may be kept, the best first. podman
// keeps some for a namespace alone.
func keys(host, repository string) []string {
	var all []string
	for name := repository; name != "" && name != "."; name = parent(name) {
		all = append(all, host+"/"+name)
	}
	all = append(all, credentials.ServerAddressFromHostname(host))
	if host == dockerHub {
		all = append(all, "docker.io", "index.docker.io", host)
	}
	return all
}

func parent(name string) string {
	return name[:max(strings.LastIndexByte(name, '/'), 0)]
}

// Key is the name under which a log-in to a host is kept.
func Key(host string) string { return credentials.ServerAddressFromHostname(host) }

// Put keeps credentials in the Docker configuration and says where: in the file or in the store
// that it names.
func (f Files) Put(ctx context.Context, host string, c registry.Credentials) (where string, err error) {
	store, err := f.open()
	if err != nil {
		return "", err
	}
	err = store.Put(ctx, Key(host), auth.Credential{
		Username: c.Username, Password: c.Password, RefreshToken: c.IdentityToken,
	})
	if err != nil {
		return "", fmt.Errorf("keeping the credentials: %w", err)
	}
	kept, err := readEntries(f.docker)
	if helper := kept.helper(Key(host)); err == nil && helper != "" {
		return "docker-credential-" + helper, nil
	}
	return f.docker, nil
}

// Delete forgets the credentials for a host. The error matches ErrNone where none are kept.
func (f Files) Delete(ctx context.Context, host string) (where string, err error) {
	store, err := f.open()
	if err != nil {
		return "", err
	}
	kept, err := readEntries(f.docker)
	if err != nil {
		return "", err
	}
	c, err := store.Get(ctx, Key(host))
	_, there := kept.Auths[Key(host)]
	if err == nil && c == auth.EmptyCredential && !there {
		return "", fmt.Errorf("%s: %w", host, ErrNone)
	}
	where = f.docker
	if helper := kept.helper(Key(host)); helper != "" {
		where = "docker-credential-" + helper
	}
	if err := store.Delete(ctx, Key(host)); err != nil {
		return "", fmt.Errorf("forgetting the credentials: %w", err)
	}
	return where, nil
}

// Podman is a log-in that podman keeps.
type Podman struct {
	Path string // the file
	Name string // the name that it has there: a host, or a namespace of one
}

// Podman lists what podman keeps for a host, in the order in which it is found.
func (f Files) Podman(host string) (all []Podman) {
	hosts := keys(host, "")
	for _, path := range f.podman {
		kept, err := readEntries(path)
		if err != nil {
			f.Warn(err.Error())
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(kept.Auths)) {
			if first, _, _ := strings.Cut(name, "/"); slices.Contains(hosts, first) {
				all = append(all, Podman{path, name})
			}
		}
	}
	return all
}

func (f Files) open() (*credentials.DynamicStore, error) {
	if f.docker == "" {
		return nil, errors.New("no home directory; set DOCKER_CONFIG to the directory that is to have config.json")
	}
	store, err := credentials.NewStore(f.docker, credentials.StoreOptions{
		AllowPlaintextPut: true, DetectDefaultNativeStore: true,
	})
	if err != nil {
		return nil, malformed(f.docker)
	}
	return store, nil
}

// entries are what a configuration file names.
type entries struct {
	Auths   map[string]json.RawMessage `json:"auths"`
	Store   string                     `json:"credsStore"`
	Helpers map[string]string          `json:"credHelpers"`
}

// helper returns the helper that keeps the credentials of a key, or "".
func (e entries) helper(key string) string {
	if h := e.Helpers[key]; h != "" {
		return h
	}
	return e.Store
}

// mayHave tells whether the file names a key, or a store that may. The library would take the entry of
// a namespace for one of the whole host, and a store knows hosts only.
func (e entries) mayHave(key string) bool {
	if _, ok := e.Auths[key]; ok || e.Helpers[key] != "" {
		return true
	}
	for name := range e.Auths {
		if _, rest, ok := strings.Cut(name, "://"); ok && strings.SplitN(rest, "/", 2)[0] == key {
			return true
		}
	}
	return e.Store != "" && (!strings.Contains(key, "/") || strings.Contains(key, "://"))
}

func (e entries) empty() bool { return len(e.Auths) == 0 && e.Store == "" && len(e.Helpers) == 0 }

// readEntries reads a file. A file that is not there has none.
func readEntries(path string) (e entries, err error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e, nil
	case err != nil:
		return e, fmt.Errorf("%w: %w", ErrUnreadable, err)
	case len(strings.TrimSpace(string(data))) == 0:
		return e, nil
	case json.Unmarshal(data, &e) != nil:
		return e, malformed(path)
	}
	return e, nil
}

// malformed does not quote the file, because it has secrets in it.
func malformed(path string) error {
	return fmt.Errorf("%w: %s is not a Docker configuration", ErrUnreadable, path)
}
