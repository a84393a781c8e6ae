package main

import (
	"errors"
	"strings"

	"github.com/modeltransfer/transfer/model/ref"
)

// reference reads a reference as the shared flags want it.
func (c *connection) reference(text string) (ref.Reference, error) { return c.read(ref.Parse, text) }

// repositoryOf reads a repository, or a reference whose tag and digest may be missing.
func (c *connection) repositoryOf(text string) (ref.Reference, error) {
	return c.read(ref.ParseRepository, text)
}

// registryOf reads a registry.
func (c *connection) registryOf(text string) (ref.Reference, error) {
	return c.read(ref.ParseRegistry, text)
}

func (c *connection) read(parse func(string) (ref.Reference, error), text string) (ref.Reference, error) {
	r, err := parse(text)
	if err != nil {
		return r, malformed(err)
	}
	return c.withScheme(r, text), nil
}

// withScheme applies --plain-http where the reference does not say its scheme itself.
func (c *connection) withScheme(r ref.Reference, text string) ref.Reference {
	if c.plainHTTP && !strings.HasPrefix(text, "https://") {
		r.Scheme = "http"
	}
	return r
}

// hasUsername tells whether --username is for a registry.
func (c *connection) hasUsername(registry string) bool {
	return c.username != "" && (c.usernameFor == "" || c.usernameFor == registry)
}

// malformed is a reference that cannot be read, with what to do about it.
func malformed(err error) error {
	if errors.Is(err, ref.ErrCredentials) {
		return usagef("%v; use transfer login", err)
	}
	return usagef("%v", err)
}
