// Package credentials finds log-ins to registries where Docker, oras, crane and podman keep them, and keeps
// them there: in config.json, in the programs that it names (credential helpers), and in podman's auth.json.
//
//	files := credentials.Find(os.Getenv)
//	repo, err := registry.Open(registry.Options{
//		BaseURL: "https://registry.example", Repository: "me/model",
//		GetCredentials: files.For("registry.example", "me/model"),
//	})
//
// Files are read anew each time, so that a log-in counts at once. No error and no message quotes a secret.
package credentials

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/modeltransfer/transfer/registry"
)

var (
	// ErrUnreadable is a log-in that is there and cannot be read.
	ErrUnreadable = errors.New("credentials cannot be read")

	// ErrNone is a log-out from a registry for which nothing is kept.
	ErrNone = errors.New("no credentials are kept for it")
)

// errNoHome is a log-in that nowhere can be kept.
var errNoHome = errors.New(
	"no home directory; set DOCKER_CONFIG to the directory that is to have config.json",
)

// Unreadable is a log-in that cannot be read. It matches [ErrUnreadable] and its cause.
type Unreadable struct {
	Path   string // the configuration file
	Key    string // its entry, or "" where the whole file is malformed
	Helper string // the program docker-credential-… that was asked, or ""
	Err    error
}

func (e *Unreadable) Error() string {
	switch {
	case e.Helper != "":
		return fmt.Sprintf("%s names docker-credential-%s, which cannot tell who logs in to %s: %v",
			e.Path, e.Helper, e.Key, e.Err)
	case e.Key != "":
		return fmt.Sprintf("%s: malformed entry of %s: %v", e.Path, e.Key, e.Err)
	}
	return fmt.Sprintf("%s cannot be read: %v", e.Path, e.Err)
}

func (e *Unreadable) Unwrap() []error { return []error{ErrUnreadable, e.Err} }

// Files are the configuration files in which log-ins are kept; [Find] finds them. The zero value has none. A
// copy may be used by several goroutines at once.
type Files struct {
	docker string   // "" where there is no home directory
	podman []string // in the order in which they are read

	// Skipped is told of each log-in that cannot be read, which is passed over: what is public needs none.
	// Nil means that nobody is told.
	Skipped func(*Unreadable)

	// Hidden are environment variables that credential helpers do not get, such as one with a password in it.
	Hidden []string
}

// Find returns the files that the environment names: DOCKER_CONFIG, or .docker in the home directory, then
// podman's. Getenv is most often [os.Getenv].
func Find(getenv func(string) string) Files {
	home := getenv("HOME")
	if home == "" && runtime.GOOS == "windows" {
		home = getenv("USERPROFILE")
	}
	f := Files{}
	switch dir := getenv("DOCKER_CONFIG"); {
	case dir != "":
		f.docker = filepath.Join(dir, "config.json")
	case home != "":
		f.docker = filepath.Join(home, ".docker", "config.json")
	}
	f.podman = podmanFiles(getenv, home, "/run/containers")
	return f
}

// podmanFiles are the files that podman reads. run is where it keeps log-ins of users without a session.
func podmanFiles(getenv func(string) string, home, run string) (files []string) {
	if path := getenv("REGISTRY_AUTH_FILE"); path != "" {
		files = append(files, path)
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	} else if runtime.GOOS == "linux" {
		files = append(files, filepath.Join(run, strconv.Itoa(os.Getuid()), "auth.json"))
	}
	switch config := getenv("XDG_CONFIG_HOME"); {
	case config != "":
		files = append(files, filepath.Join(config, "containers", "auth.json"))
	case home != "":
		files = append(files, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	return files
}

// For returns what [registry.Options] have as GetCredentials: [Files.Get] for one repository. The host is as
// in the URL of the registry, with its port where it has one.
func (f Files) For(host, repository string) func(context.Context) (registry.Credentials, error) {
	return func(ctx context.Context) (registry.Credentials, error) { return f.Get(ctx, host, repository) }
}

func (f Files) skip(u *Unreadable) {
	if f.Skipped != nil {
		f.Skipped(u)
	}
}

// Get returns the credentials for a repository of a registry, and zero where none are kept. The first file
// that has some decides. What cannot be read is told to Skipped. The error is that of the context.
func (f Files) Get(ctx context.Context, host, repository string) (registry.Credentials, error) {
	for _, path := range append([]string{f.docker}, f.podman...) {
		if path == "" {
			continue
		}
		c, err := f.read(ctx, path, host, repository)
		var skipped *Unreadable
		if errors.As(err, &skipped) && ctx.Err() == nil {
			f.skip(skipped)
		} else if err != nil {
			return registry.Credentials{}, context.Cause(ctx)
		}
		if c != (registry.Credentials{}) {
			return c, nil
		}
	}
	return registry.Credentials{}, nil
}

// read looks into one file. Where it names a program that keeps the credentials, its own entries count only
// if that program fails.
func (f Files) read(ctx context.Context, path, host, repository string) (registry.Credentials, error) {
	c, err := readConfig(path)
	if err != nil {
		return registry.Credentials{}, err
	}
	c.docker = path == f.docker
	asked, failed := false, error(nil)
	for _, ask := range c.helpersFor(host, repository) {
		asked = true
		found, err := f.get(ctx, ask.helper, ask.key)
		if err != nil {
			failed = &Unreadable{Path: path, Key: ask.key, Helper: ask.helper, Err: err}
			break
		}
		if found != (registry.Credentials{}) {
			return found, nil
		}
	}
	if asked && failed == nil {
		return registry.Credentials{}, nil
	}
	for _, key := range c.entriesFor(host, repository) {
		found, err := decodeEntry(c.auths[key])
		if found != (registry.Credentials{}) {
			return found, nil
		}
		if err != nil && failed == nil {
			failed = &Unreadable{Path: path, Key: key, Err: err}
		}
	}
	return registry.Credentials{}, failed
}

// Put keeps credentials in the Docker configuration and says where: in the file, or in the store that it
// names. The error matches [ErrUnreadable] where that store does not work.
func (f Files) Put(ctx context.Context, host string, who registry.Credentials) (where string, err error) {
	c, err := f.open()
	if err != nil {
		return "", err
	}
	key := keyOf(host)
	helper := c.helper(key)
	if helper == "" && c.isNew() {
		if helper = defaultHelper(); helper != "" {
			defer func() {
				if err == nil {
					c.store = helper
					err = c.save()
				}
			}()
		}
	}
	if helper != "" {
		if err := f.store(ctx, helper, key, who); err != nil {
			return "", &Unreadable{Path: f.docker, Key: key, Helper: helper, Err: err}
		}
		return "docker-credential-" + helper, nil
	}
	c.auths[key] = encodeEntry(who)
	if err := c.save(); err != nil {
		return "", fmt.Errorf("keeping the credentials: %w", err)
	}
	return f.docker, nil
}

// Delete forgets the credentials for a host. The error matches [ErrNone] where none are kept.
func (f Files) Delete(ctx context.Context, host string) (where string, err error) {
	c, err := f.open()
	if err != nil {
		return "", err
	}
	key := keyOf(host)
	if helper := c.helper(key); helper != "" {
		found, err := f.get(ctx, helper, key)
		if err == nil && found != (registry.Credentials{}) {
			where, err = "docker-credential-"+helper, f.erase(ctx, helper, key)
		}
		if err != nil {
			return "", &Unreadable{Path: f.docker, Key: key, Helper: helper, Err: err}
		}
	}
	if keys := matching(c.auths, host, ""); len(keys) > 0 {
		for _, key := range keys {
			delete(c.auths, key)
		}
		if err := c.save(); err != nil {
			return "", fmt.Errorf("forgetting the credentials: %w", err)
		}
		if where == "" {
			where = f.docker
		}
	}
	if where == "" {
		return "", fmt.Errorf("%s: %w", host, ErrNone)
	}
	return where, nil
}

// open reads the Docker configuration to change it.
func (f Files) open() (*config, error) {
	if f.docker == "" {
		return nil, errNoHome
	}
	return readConfig(f.docker)
}

// Podman is a log-in that podman keeps.
type Podman struct {
	Path string // the file
	Name string // the name that it has there: a host, or a namespace of one
}

// Podman lists what podman keeps for a host, in the order in which it is found.
func (f Files) Podman(host string) (all []Podman) {
	for _, path := range f.podman {
		c, err := readConfig(path)
		var skipped *Unreadable
		if errors.As(err, &skipped) {
			f.skip(skipped)
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(c.auths)) {
			if parseKey(name).host == canonical(host) {
				all = append(all, Podman{path, name})
			}
		}
	}
	return all
}
