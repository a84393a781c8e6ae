package exchange

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/internal/challenge"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// tokenGrace is how long Close waits for a GetToken whose context has ended.
	tokenGrace = time.Second

	// maxChallenges bounds how many tokens are kept: a server must not choose how much memory its challenges
	// take.
	maxChallenges = 256

	// maxAccepted bounds in the same way how many tokens are known to have been good once.
	maxAccepted = 1024
)

// Challenge is what a registry asks for when it answers 401. It is zero where that named no Bearer challenge.
type Challenge struct{ Realm, Service, Scope string }

// key is the challenge by which tokens are kept. Distribution names the actions of a scope in any order, and
// another one each time: "pull,push" wants the same token as "push,pull".
func (c Challenge) key() Challenge {
	parts := strings.Fields(c.Scope)
	for i, part := range parts {
		colon := strings.LastIndexByte(part, ':') + 1
		actions := strings.Split(part[colon:], ",")
		slices.Sort(actions)
		parts[i] = part[:colon] + strings.Join(actions, ",")
	}
	slices.Sort(parts)
	c.Scope = strings.Join(parts, " ")
	return c
}

// GetToken returns a token for a challenge.
type GetToken func(context.Context, Challenge) (string, error)

// Tokens holds the tokens that all requests of a call share: the newest, and the newest for each challenge.
// Mounts from several repositories may each need one of their own.
type Tokens struct {
	get     GetToken        // nil: a 401 is final
	run     context.Context // of the whole call: a renewal serves all who wait, whoever began it
	first   string          // the caller's
	secrets wire.Secrets

	mu               sync.Mutex // guards the fields that follow
	current          string
	accepted         map[acceptance]struct{}
	currentChallenge Challenge              // what current was made for
	made             map[Challenge]string   // by key
	renewals         map[Challenge]*renewal // by key
	trials           map[acceptance]*trial  // of passwords, under way or refused
}

// NewTokens returns tokens, of which the first is given. The context is that of the whole call.
func NewTokens(ctx context.Context, first string, get GetToken) *Tokens {
	t := &Tokens{
		get: get, run: ctx, first: first, current: first,
		made: make(map[Challenge]string), renewals: make(map[Challenge]*renewal),
		accepted: make(map[acceptance]struct{}), trials: make(map[acceptance]*trial),
	}
	t.secrets.Add(first)
	return t
}

// acceptance records that a request, one that reads or one that writes, was let in with a token.
type acceptance struct {
	token  string
	writes bool
}

// tokenUse is which token a request uses, and why.
type tokenUse struct {
	token      string
	refused    []string // that were the newest then
	challenged bool
	challenge  Challenge // that the request was answered with
	key        Challenge // of the challenge
	pushScope  bool      // a token for pushing was asked for instead of one for pulling
}

// newestFor returns the newest token that a request may use. The caller holds mu.
func (t *Tokens) newestFor(u *tokenUse) string {
	if token, ok := t.made[u.key]; u.challenged && ok {
		return token
	}
	return t.current
}

// refused notes that a request was refused, and tells whether that was once too often. A refusal counts by
// what is known of its token:
//
//   - one that another request has renewed meanwhile: nothing;
//   - one that has let in others of the kind: nothing, because it has merely expired, perhaps after so many
//     requests;
//   - one that has let in others that read, where this one writes: a third, because it has expired, or is not
//     good for writing;
//   - any other, and the one that the call began with: all.
//
// The others may be let in after the refusal, so all refusals are judged anew each time.
func (t *Tokens) refused(f *flight) (tooOften bool) {
	const full, some = 3, 1 // how much a refusal counts
	t.mu.Lock()
	defer t.mu.Unlock()
	u := &f.tokens
	if u.token == t.newestFor(u) {
		u.refused = append(u.refused, u.token)
	}
	count := 0
	for _, token := range u.refused {
		_, wrote := t.accepted[acceptance{token, true}]
		_, read := t.accepted[acceptance{token, false}]
		switch {
		case token == t.first || !wrote && !read:
			count += full
		case !wrote && writes(f.req.Method):
			count += some
		}
	}
	return count > full*maxRefreshes
}

// samePassword tells whether a renewal has brought a user name and a password (RFC 7617) again that a request
// was refused with. They are not sent a second time: Docker Hub locks an account after a few failures
// (hub-feedback#642).
// Those that have let in others are good, and what was refused is something else.
func (t *Tokens) samePassword(f *flight) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	token := t.newestFor(&f.tokens)
	_, good := t.accepted[acceptance{token, writes(f.req.Method)}]
	return wire.IsBasic(token) && !good && slices.Contains(f.tokens.refused, token)
}

func writes(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// renewable tells whether another token may make a request succeed that was answered so, and remembers for
// which challenge.
func (t *Tokens) renewable(f *flight, resp *wire.Response) bool {
	u := &f.tokens
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		if t.get == nil {
			return false
		}
		usable := func(realm string) bool { _, err := resp.Target.Realm(realm); return err == nil }
		c := challenge.Best(usable, resp.Header.Values("WWW-Authenticate")...)
		u.answered(Challenge{c.Realm, c.Service, c.Scope})
		return true
	case http.StatusForbidden:
		return t.get != nil && !u.pushScope && t.addPushScope(u, f.req.Method)
	}
	if letIn(resp.StatusCode) {
		t.accept(f)
	}
	return false
}

// accept notes that a request was let in with its token.
func (t *Tokens) accept(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.accepted) >= maxAccepted {
		clear(t.accepted)
	}
	t.accepted[acceptance{f.tokens.token, writes(f.req.Method)}] = struct{}{}
}

// letIn tells whether a status says that the token was good: only who has looked at it succeeds, redirects,
// or knows what is there. A server that is busy or does not understand the request has not looked at it.
func letIn(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusPreconditionFailed,
		http.StatusRequestedRangeNotSatisfiable:
		return true
	}
	return status < http.StatusBadRequest
}

// addPushScope asks for a token for pushing, once, where a request that writes was sent with one for pulling
// (containerd#1318).
func (t *Tokens) addPushScope(u *tokenUse, method string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !writes(method) || u.token != t.newestFor(u) {
		return false
	}
	c := t.currentChallenge
	if u.challenged {
		c = u.challenge
	}
	if !strings.HasSuffix(c.Scope, ":pull") {
		return false
	}
	c.Scope += ",push"
	u.answered(c)
	u.pushScope = true
	return true
}

func (u *tokenUse) answered(c Challenge) { u.challenge, u.key, u.challenged = c, c.key(), true }

// renewal is one call of GetToken.
type renewal struct {
	done chan struct{}
	err  error // set before done is closed
}

// renew replaces the token that a request was refused with, once for all that were refused for the same
// challenge.
func (x *Exchange) renew(f *flight, resp *wire.Response) error {
	c := f.tokens.challenge
	if c.Realm != "" {
		realm, err := resp.Target.Realm(c.Realm)
		if err != nil {
			return err
		}
		c.Realm = realm.URL.String()
		f.tokens.answered(c)
	}
	x.Log.LogAttrs(f.watch.Context(), slog.LevelDebug, "token refused, asking for a new one",
		slog.String("scope", c.Scope), slog.Int("status", resp.StatusCode))
	f.watch.Pause() // somebody may have to log in first
	defer f.watch.Resume()
	return x.Tokens.renew(f.watch.Context(), c, f.tokens.token)
}

func (t *Tokens) renew(ctx context.Context, c Challenge, refused string) error {
	key := c.key()
	t.mu.Lock()
	token, ok := t.made[key]
	if ok && token != refused || !ok && t.current != refused && t.currentChallenge.key() == key {
		t.mu.Unlock()
		return nil // another request has renewed it meanwhile
	}
	r := t.renewals[key]
	if r == nil {
		r = &renewal{done: make(chan struct{})}
		t.renewals[key] = r
		go t.fetch(r, c)
	}
	t.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *Tokens) fetch(r *renewal, c Challenge) {
	var token string
	err := errors.New("GetToken did not return") // it called runtime.Goexit
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("GetToken panicked: %v", p)
		}
		t.settle(r, c, token, err)
	}()
	if token, err = t.get(t.run, c); err == nil && wire.CheckHeader("", token) != nil {
		err = fmt.Errorf("%w: a token with a control character in it", sentinel.ErrInvalidOption)
	}
}

// settle ends a renewal for all who wait for it.
func (t *Tokens) settle(r *renewal, c Challenge, token string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		r.err = tokenError(err)
	} else {
		if len(t.made) >= maxChallenges {
			clear(t.made)
		}
		t.current, t.currentChallenge, t.made[c.key()] = token, c, token
		t.secrets.Add(token)
	}
	delete(t.renewals, c.key())
	close(r.done)
}

// tokenError says whether GetToken is worth another attempt.
func tokenError(err error) error {
	told := loginError{fmt.Errorf("getting a token: %w", err)}
	temporary, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	timeout, timed := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	if ok && temporary.Temporary() || timed && timeout.Timeout() {
		return retry.Transient(told)
	}
	return retry.Permanent(told)
}

// Close waits for the calls of GetToken whose context has ended. Those that do not end are the caller's.
func (t *Tokens) Close() {
	t.mu.Lock()
	var open []*renewal
	for _, r := range t.renewals {
		open = append(open, r)
	}
	t.mu.Unlock()
	if len(open) == 0 {
		return
	}
	timer := time.NewTimer(tokenGrace)
	defer timer.Stop()
	for _, r := range open {
		select {
		case <-r.done:
		case <-timer.C:
			return
		}
	}
}
