package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/wire"
)

// ErrUnauthorized means that the registry wants credentials and there are none, or that it or its token
// server has refused those there are. In the latter case the error is a [*transfer.StatusError] too.
var ErrUnauthorized = errors.New("credentials are missing or refused")

// expiryMargin is how long before its end a token is no longer used, so that it does not end on its way.
const expiryMargin = 5 * time.Second

// GetToken returns a token that answers the challenge, for [transfer.DownloadOptions] and
// [transfer.UploadOptions].
//
// It asks the token server of the challenge with the repository's credentials: anonymously, with user
// and password, or with the identity token. A challenge without a scope stands for pulling from the
// repository, for pushing too with [Options.Push]; scopes that were asked for earlier are asked for
// again, because one token serves a whole call. For a challenge without a realm it answers as the last
// one with a realm or, when there was none, returns "Basic" and the user and password, which package
// transfer sends as such.
//
// It asks for a new token each time, because it is called when one was refused; calls at the same time
// share one. A token server that fails temporarily is asked again until RetryTimeout is over, as it
// wishes with Retry-After. Errors are [ErrUnauthorized], [transfer.ErrRedirectRefused] for a realm that
// is none for this registry, [transfer.ErrProtocol], [transfer.ErrRetriesExhausted],
// [*transfer.StatusError], what GetCredentials returned, and the error of ctx. None has a secret in it.
func (r *Repository) GetToken(ctx context.Context, challenge transfer.AuthChallenge) (string, error) {
	return r.renewToken(ctx, challenge, toPull)
}

// getPushToken is GetToken for uploads.
func (r *Repository) getPushToken(ctx context.Context, challenge transfer.AuthChallenge) (string, error) {
	return r.renewToken(ctx, challenge, toPush)
}

// access is what a token is for.
type access int

const (
	toPull  access = iota // from the repository, and what else the challenge says
	toPush                // to the repository
	toLogIn               // no repository
)

// authorizer holds the token of a repository and what is known of how to get one.
type authorizer struct {
	own         string // the resource that is the repository
	push        bool   // all tokens are for pushing
	credentials func(context.Context) (Credentials, error)
	turn        chan struct{} // taken by who asks for a token

	mu        sync.Mutex             // guards the fields that follow
	challenge transfer.AuthChallenge // the last one with a realm
	scopes    scopes                 // of the token
	refused   scopes                 // of other repositories, for which the token server gives none
	token     string
	mayPush   bool      // what the token was made for
	expires   time.Time // zero: never
	renewals  int
	rotated   [2]string // an identity token, and the one that has replaced it
}

func (a *authorizer) init(opts Options) {
	a.own = "repository:" + opts.Repository
	a.push = opts.Push
	a.credentials = opts.GetCredentials
	if a.credentials == nil {
		a.credentials = func(context.Context) (Credentials, error) { return opts.Credentials, nil }
	}
	a.turn = make(chan struct{}, 1)
	a.scopes, a.refused = scopes{}, scopes{}
}

// current returns the token if it gives that access, or "".
func (a *authorizer) current(want access) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.expires.IsZero() && time.Now().After(a.expires) || want == toLogIn || want == toPush && !a.mayPush {
		return ""
	}
	return a.token
}

// renewToken gets a new token, or waits for one that is being got.
func (r *Repository) renewToken(ctx context.Context, c transfer.AuthChallenge, want access) (string, error) {
	a := &r.auth
	before := a.renewalCount()
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if want == toPull && a.push {
		want = toPush
	}
	p := a.plan(c, want)
	if token, ok := a.renewedSince(before, p.scopes); ok {
		return token, nil
	}
	who, err := a.credentials(ctx)
	if err == nil {
		err = who.check()
	}
	if err != nil {
		return "", fmt.Errorf("credentials of %s: %w", r.registry.Host(), err)
	}
	return r.fetchToken(ctx, p, who)
}

func (a *authorizer) renewalCount() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.renewals
}

// renewedSince returns the token if it is new and good for the scopes.
func (a *authorizer) renewedSince(before int, want scopes) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.token, a.renewals != before && a.scopes.cover(want)
}

// tokenPlan is what a token is asked for.
type tokenPlan struct {
	realm, service string
	own            string // the resource that is the repository, as the registry calls it
	scopes         scopes
}

// plan completes a challenge.
func (a *authorizer) plan(c transfer.AuthChallenge, want access) tokenPlan {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.Realm == "" {
		c.Realm, c.Service = a.challenge.Realm, a.challenge.Service
	} else {
		a.challenge = c
	}
	if want == toLogIn {
		return tokenPlan{realm: c.Realm, service: c.Service}
	}
	asked, own := parseScopes(c.Scope), a.own
	if asked[own] == nil && len(asked) == 1 { // a registry may call the repository by another name
		for own = range asked {
		}
	}
	asked.add(own, "pull")
	if want == toPush {
		asked.add(own, "push")
	}
	all := a.scopes.with(asked)
	if len(all) > maxScopes {
		all = asked
	}
	for resource := range a.refused {
		delete(all, resource)
	}
	return tokenPlan{realm: c.Realm, service: c.Service, own: own, scopes: all}
}

// fetchToken gets a token as planned and keeps it.
func (r *Repository) fetchToken(ctx context.Context, p tokenPlan, who Credentials) (string, error) {
	if p.realm == "" {
		if who.Username == "" {
			return "", fmt.Errorf("%w: %s wants a user name and a password", ErrUnauthorized, r.registry.Host())
		}
		r.auth.keep(grant{token: who.basic()}, p)
		return who.basic(), nil
	}
	realm, err := r.realm(p.realm)
	if err != nil {
		return "", err
	}
	var g grant
	err = r.run(ctx, "", nil, func(ctx context.Context, c *call) error {
		server := c.newTokenServer(realm, p.service, who)
		g, err = server.ask(ctx, p.scopes)
		if isRefusal(err) && len(p.scopes) > 1 { // perhaps of a repository that is only to be mounted from
			r.auth.refuse(p)
			p.scopes = p.scopes.only(p.own)
			g, err = server.ask(ctx, p.scopes)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	r.auth.keep(g, p)
	return g.token, nil
}

// realm checks where a challenge sends for a token. The rules are those of a redirect.
func (r *Repository) realm(text string) (wire.Target, error) {
	if !strings.Contains(text, "://") {
		return wire.Target{}, fmt.Errorf("%w: the realm %.100q is not an http or https URL",
			transfer.ErrRedirectRefused, text)
	}
	target, err := r.registry.Manifest(r.opts.Repository, "latest").Resolve(text)
	if err != nil {
		return wire.Target{}, fmt.Errorf("realm of the registry's challenge: %w", err)
	}
	return target, nil
}

// keep makes the grant's token the current one, unless it is for no repository.
func (a *authorizer) keep(g grant, p tokenPlan) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.realm != "" && p.own == "" {
		return
	}
	a.token, a.expires, a.scopes = g.token, g.expires, p.scopes
	a.mayPush = p.realm == "" || slices.Contains(p.scopes[p.own], "push")
	a.renewals++
}

// refuse remembers the other repositories of a plan that was refused, so that they are not asked for again.
func (a *authorizer) refuse(p tokenPlan) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for resource, actions := range p.scopes {
		if resource != p.own && len(a.refused) < maxScopes {
			a.refused[resource] = actions
		}
		if resource != p.own {
			delete(a.scopes, resource)
		}
	}
}

// identity returns the identity token to use for the one that the credentials have.
func (a *authorizer) identity(given string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rotated[0] == given {
		return a.rotated[1]
	}
	return given
}

// rotate replaces an identity token (RFC 6749 section 6): the token server may have ended the old one.
func (a *authorizer) rotate(given, fresh string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rotated = [2]string{given, fresh}
}

// isRefusal tells whether the token server refused what it was asked for.
func isRefusal(err error) bool {
	var status *transfer.StatusError
	if !errors.As(err, &status) {
		return false
	}
	switch status.StatusCode {
	case http.StatusBadRequest, // RFC 6749 section 5.2
		http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return false
}
