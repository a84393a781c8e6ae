package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// Refusals, wherever they occur: errors of [transfer.Download] and [transfer.Upload] match them too. Where a
// server has answered so, the error is a [*transfer.StatusError] too.
var (
	// ErrUnauthorized means that the registry wants credentials and there are none, or that it or its token
	// server has refused those there are.
	ErrUnauthorized = sentinel.ErrUnauthorized

	// ErrDenied means that the registry or its token server does not allow what was asked for, whatever the
	// password: it has answered 403, or 401 with insufficient_scope (RFC 6750 section 3.1) or DENIED.
	ErrDenied = sentinel.ErrDenied
)

// expiryMargin is how long before its end a token is given up, so that it does not end on its way.
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
// [*transfer.StatusError], what GetCredentials returned, [transfer.ErrInvalidOption] where that cannot
// be sent, and the error of ctx. None has a secret in it.
func (r *Repository) GetToken(ctx context.Context, challenge transfer.AuthChallenge) (string, error) {
	if err := r.usable(ctx); err != nil {
		return "", err
	}
	return r.auth.renew(ctx, challenge, toPull)
}

// getPushToken is GetToken for uploads.
func (r *core) getPushToken(ctx context.Context, challenge transfer.AuthChallenge) (string, error) {
	return r.auth.renew(ctx, challenge, toPush)
}

// getter returns what gets tokens that give that access.
func (a *authorizer) getter(want access) exchange.GetToken {
	return func(ctx context.Context, c exchange.Challenge) (string, error) {
		return a.renew(ctx, transfer.AuthChallenge(c), want)
	}
}

// access is what a token is for.
type access int

const (
	toPull   access = iota // from the repository, and what else the challenge says
	toPush                 // to the repository
	toDelete               // from the repository
	toList                 // the registry's repositories
	toLogIn                // nothing
)

// catalog is the resource that lists the repositories of a registry.
const catalog = "registry:catalog"

// actions returns what the access is, to the repository or to the catalog.
func (a access) actions() []string {
	switch a {
	case toPush:
		return []string{"pull", "push"}
	case toDelete:
		return []string{"pull", "delete"}
	case toList:
		return []string{"*"}
	}
	return []string{"pull"}
}

// authorizer has the token of a repository, and knows how to get another.
type authorizer struct {
	repo *core
	turn chan struct{} // taken by who asks for a token

	mu        sync.Mutex             // guards the fields that follow
	challenge transfer.AuthChallenge // the last one with a realm
	held      heldToken
	renewals  int
	refused   scopes    // of other repositories, for which the token server gives none
	rotated   [2]string // an identity token, and the one that has replaced it
}

// heldToken is a token and what it was made for. The zero value is none.
type heldToken struct {
	token   string
	expires time.Time // zero: never
	scopes  scopes
	own     string // the resource that is the repository
	any     bool   // it is a user name and a password, which are for everything
}

// allows tells whether the token was asked for with that access. To pull is all that any token is for.
func (h *heldToken) allows(want access) bool {
	return h.any || want == toPull || want != toLogIn && h.scopes.cover(scopes{h.own: want.actions()})
}

func (r *core) newAuthorizer() *authorizer {
	return &authorizer{repo: r, turn: make(chan struct{}, 1), refused: scopes{}}
}

// askingKey marks the context of a GetCredentials: what it asks of its own repository would wait for itself.
type askingKey struct{ *authorizer }

var errAskingItself = fmt.Errorf("%w: GetCredentials asks the repository that waits for it",
	transfer.ErrInvalidOption)

// credentials returns who asks.
func (a *authorizer) credentials(ctx context.Context) (who Credentials, err error) {
	if who = a.repo.opts.Credentials; a.repo.opts.GetCredentials != nil {
		who, err = a.repo.opts.GetCredentials(context.WithValue(ctx, askingKey{a}, true))
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials of %s: %w", a.repo.registry.Host(), err)
	}
	if err := who.check(); err != nil {
		return Credentials{}, fmt.Errorf("%w: credentials of %s: %w",
			transfer.ErrInvalidOption, a.repo.registry.Host(), err)
	}
	return who, nil
}

// current returns the token if it gives that access, or "".
func (a *authorizer) current(want access) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.held
	if !h.expires.IsZero() && time.Now().After(h.expires) || want == toLogIn || !h.allows(want) {
		return ""
	}
	return h.token
}

// renew gets a new token, or waits for one that is being got.
func (a *authorizer) renew(ctx context.Context, c transfer.AuthChallenge, want access) (string, error) {
	if ctx.Value(askingKey{a}) != nil {
		return "", errAskingItself
	}
	before := a.renewalCount()
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if want == toPull && a.repo.opts.Push {
		want = toPush
	}
	p := a.plan(c, want)
	if token, ok := a.renewedSince(before, p.scopes); ok {
		return token, nil
	}
	who, err := a.credentials(ctx)
	if err != nil {
		return "", err
	}
	return a.fetch(ctx, p, who)
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
	return a.held.token, a.renewals != before && a.held.scopes.cover(want)
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
	asked, own := parseScopes(c.Scope), "repository:"+a.repo.opts.Repository
	if want == toList {
		own = catalog
	} else if asked[own] == nil && a.held.scopes[own] == nil && len(asked) == 1 {
		// The registry calls the repository by another name. Later it may be one to mount from.
		for own = range asked {
		}
	}
	asked.add(own, want.actions()...)
	all := a.held.scopes.with(asked)
	if len(all) > maxScopes {
		all = asked
	}
	for resource := range a.refused {
		delete(all, resource)
	}
	return tokenPlan{realm: c.Realm, service: c.Service, own: own, scopes: all}
}

// fetch gets a token as planned and keeps it.
func (a *authorizer) fetch(ctx context.Context, p tokenPlan, who Credentials) (string, error) {
	if p.realm == "" {
		if who.Username == "" {
			return "", fmt.Errorf("%w: %s wants a user name and a password",
				ErrUnauthorized, a.repo.registry.Host())
		}
		a.keep(grant{token: who.basic()}, p)
		return who.basic(), nil
	}
	realm, err := a.repo.manifestAt("latest").Realm(p.realm)
	if err != nil {
		return "", err
	}
	var g grant
	err = a.repo.run(ctx, "", nil, func(ctx context.Context, c *call) error {
		server := newTokenServer(c, realm, p.service, who)
		g, err = server.ask(ctx, p.scopes)
		if isRefusal(err) && len(p.scopes) > 1 { // perhaps of a repository that is only to be mounted from
			all := p
			p.scopes = p.scopes.only(p.own)
			if g, err = server.ask(ctx, p.scopes); err == nil { // and so not of the password
				a.refuse(all)
			}
		}
		return err
	})
	if err != nil {
		return "", err
	}
	a.keep(g, p)
	return g.token, nil
}

// keep makes the grant's token the current one, unless it is for no repository.
func (a *authorizer) keep(g grant, p tokenPlan) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.realm != "" && p.own == "" {
		return
	}
	a.held = heldToken{
		token: g.token, expires: g.expires, scopes: p.scopes,
		own: p.own, any: p.realm == "",
	}
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
			delete(a.held.scopes, resource)
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

// isRefusal reports whether the token server refused what it was asked for.
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
