package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/model/credentials"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
)

// identities remember as whom each registry is asked, for hints.
type identities struct {
	mu      sync.Mutex                         // guards the fields that follow
	names   map[string]string                  // by host
	skipped map[string]*credentials.Unreadable // log-ins that were passed over, by host
	warned  map[string]bool                    // what has been said already
}

func (i *identities) set(host, name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.names == nil {
		i.names = map[string]string{}
	}
	i.names[host] = name
}

func (i *identities) skip(host string, u *credentials.Unreadable) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.skipped == nil {
		i.skipped = map[string]*credentials.Unreadable{}
	}
	i.skipped[host] = u
}

// of returns as whom a host was asked, and the log-in to it that was passed over.
func (i *identities) of(host string) (name string, skipped *credentials.Unreadable) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.names[host], i.skipped[host]
}

// first reports whether a warning is the first of its kind.
func (i *identities) first(warning string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	known := i.warned[warning]
	if i.warned == nil {
		i.warned = map[string]bool{}
	}
	i.warned[warning] = true
	return !known
}

// credentials are those of the command line or, without a username, those that are kept for the registry.
func (a *app) credentials(ctx context.Context, r ref.Reference) (c registry.Credentials, err error) {
	if a.hasUsername(r.Registry()) {
		c = registry.Credentials{Username: a.username, Password: a.getenv(passwordVariable)}
	} else if c, err = a.logins(r.Registry()).Get(ctx, r.Host, r.Repository); err == nil {
		a.who.set(r.Registry(), c.Username)
	}
	if c != (registry.Credentials{}) {
		a.warnOfHTTP(r)
	}
	return c, err
}

// warnOfHTTP warns of a registry to which everybody on the way can read the log-in.
func (a *app) warnOfHTTP(r ref.Reference) {
	if r.Scheme == "http" && !isLoopback(r.Host) {
		a.warn("the log-in to " + r.Host + " is sent unencrypted, because it is asked over http")
	}
}

// isLoopback tells whether a host is this machine, so that nobody else can read what is sent to it.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback() || host == "localhost"
}

// logins are what is kept for a registry and others. What cannot be read is told and passed over.
func (a *app) logins(host string) credentials.Files {
	files := credentials.Find(a.getenv)
	files.Hidden = []string{passwordVariable}
	files.Skipped = func(u *credentials.Unreadable) {
		a.who.skip(host, u)
		a.warn(fmt.Sprintf("%v; going on without a log-in. To use it, %s", u, repair(u, host)))
	}
	return files
}

// warn says something once, in a line of its own, also with --quiet.
func (a *app) warn(message string) {
	if a.who.first(message) {
		fmt.Fprintf(a.stderr, "warning: %s\n", printable.Text(message))
	}
}

// repair says how a log-in can be used that could not be read. Where a program is to keep log-ins and does
// not work, another log-in fails as well.
func repair(u *credentials.Unreadable, host string) string {
	const meanwhile = "; --username NAME with the password in " + passwordVariable + " works meanwhile"
	switch {
	case u.Helper != "" && errors.Is(u.Err, exec.ErrNotFound):
		return fmt.Sprintf("install docker-credential-%s, or take it out of %s and log in again: "+
			"transfer login %s%s", u.Helper, u.Path, host, meanwhile)
	case u.Helper != "":
		return fmt.Sprintf("make docker-credential-%s work, or take it out of %s and log in again: "+
			"transfer login %s%s", u.Helper, u.Path, host, meanwhile)
	case u.Key != "":
		return "log in again: transfer login " + host
	}
	return "repair " + u.Path + meanwhile
}
