package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/internal/wire"
)

// AuthChallenge is what a registry asks for when it answers 401: the Bearer
// challenge of its WWW-Authenticate header (RFC 9110 section 11.6.1, RFC 6750
// section 3). All fields are empty when it sent none. The realm is an http or
// https URL that the rules for redirects allow, or empty.
type AuthChallenge struct {
	Realm   string
	Service string
	Scope   string
}

const (
	// maxRefreshes is how many new tokens one request may ask for. The first may
	// have been for another scope or just expired; a registry that refuses a
	// third will refuse them all.
	maxRefreshes = 2

	maxChallenge = 8 << 10 // bytes of WWW-Authenticate that are read

	// tokenGrace is how long a call waits, at its end, for a GetToken that it
	// has cancelled.
	tokenGrace = time.Second
)

// do sends a request with the current token. A 401 of the registry is
// answered with a new one. The response is whatever came in the end.
func (s *session) do(ctx context.Context, r wire.Request) (*wire.Response, error) {
	for refreshes := 0; ; refreshes++ {
		r.Token = s.auth.current()
		resp, err := s.client.Do(ctx, r)
		if err != nil {
			return nil, err
		}
		s.logAnswer(ctx, r.Method, resp)
		if !r.Target.Left { // a mirror does not speak for the registry
			s.answered.Store(true)
		}
		if resp.StatusCode != http.StatusUnauthorized || resp.Target.Left ||
			s.auth.getToken == nil || refreshes == maxRefreshes {
			return resp, nil
		}
		resp.Discard()
		challenge := parseAuthChallenge(strings.Join(resp.Header.Values("WWW-Authenticate"), ", "))
		if err := s.checkRealm(challenge.Realm); err != nil {
			return nil, err
		}
		s.log.LogAttrs(ctx, slog.LevelDebug, "token refused, asking for a new one", slog.String("scope", challenge.Scope))
		if err := s.auth.renew(ctx, challenge, r.Token); err != nil {
			return nil, err
		}
	}
}

func (s *session) logAnswer(ctx context.Context, method string, resp *wire.Response) {
	if !s.log.Enabled(ctx, slog.LevelDebug) { // the URL is dear
		return
	}
	s.log.LogAttrs(ctx, slog.LevelDebug, "answer", slog.String("method", method), slog.String("url", wire.Redact(resp.Target.URL)),
		slog.Int("status", resp.StatusCode))
}

func (s *session) checkRealm(realm string) error {
	if realm == "" {
		return nil
	}
	if !strings.Contains(realm, "://") {
		return fmt.Errorf("%w: the realm %.100q of the registry's challenge is not an http or https URL", ErrRedirectRefused, realm)
	}
	if err := s.registry.CheckRealm(realm); err != nil {
		return fmt.Errorf("realm of the registry's challenge: %w", err)
	}
	return nil
}

// authorizer holds the token that all requests of a call share.
type authorizer struct {
	getToken func(context.Context, AuthChallenge) (string, error)
	run      context.Context // of the whole call: a refresh serves all who wait, whoever began it

	mu      sync.Mutex // guards the fields that follow
	token   string
	pending *renewal
}

// renewal is one call of GetToken.
type renewal struct {
	done chan struct{}
	err  error // set before done is closed
}

func (a *authorizer) current() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.token
}

// renew replaces the token that was refused, once for all who were refused with it.
func (a *authorizer) renew(ctx context.Context, challenge AuthChallenge, refused string) error {
	a.mu.Lock()
	if a.token != refused {
		a.mu.Unlock()
		return nil
	}
	if a.pending == nil {
		a.pending = &renewal{done: make(chan struct{})}
		go a.fetch(a.pending, challenge)
	}
	pending := a.pending
	a.mu.Unlock()
	defer hold(ctx)() // somebody may have to log in first
	select {
	case <-pending.done:
		return pending.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *authorizer) fetch(r *renewal, challenge AuthChallenge) {
	var token string
	err := errors.New("GetToken did not return") // it called runtime.Goexit
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("GetToken panicked: %v", p)
		}
		a.settle(r, token, err)
	}()
	token, err = a.getToken(a.run, challenge)
}

// settle ends a renewal for all who wait for it.
func (a *authorizer) settle(r *renewal, token string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		r.err = permanent(fmt.Errorf("getting a token: %w", err))
	} else {
		a.token = token
	}
	a.pending = nil
	close(r.done)
}

// minQuote is from how many bytes on the beginning of a token is taken for one: fewer may be chance.
const minQuote = 4

// withoutToken takes the token out of what a registry says, which may quote what it was sent, and
// be cut short in the middle of it.
func withoutToken(text, token string) string {
	if token == "" {
		return text
	}
	text = strings.ReplaceAll(text, token, "***")
	for n := min(len(token), len(text)); n >= minQuote; n-- {
		if before, ok := strings.CutSuffix(text, token[:n]); ok {
			return before + "***"
		}
	}
	return text
}

// close waits for a GetToken that has been cancelled; one that will not end is the caller's.
func (a *authorizer) close() {
	a.mu.Lock()
	pending := a.pending
	a.mu.Unlock()
	if pending == nil {
		return
	}
	t := time.NewTimer(tokenGrace)
	defer t.Stop()
	select {
	case <-pending.done:
	case <-t.C:
	}
}

// parseAuthChallenge returns the first Bearer challenge of a WWW-Authenticate
// header, which may hold several (RFC 9110 section 11.6.1). Malformed parts are
// passed over.
func parseAuthChallenge(header string) AuthChallenge {
	var c AuthChallenge
	fields := map[string]*string{"realm": &c.Realm, "service": &c.Service, "scope": &c.Scope}
	rest := header[:min(len(header), maxChallenge)]
	bearer := false
	for {
		rest = strings.TrimLeft(rest, " \t,")
		if rest == "" {
			return c
		}
		name, after := cutToken(rest)
		value, ok := strings.CutPrefix(strings.TrimLeft(after, " \t"), "=")
		switch {
		case name == "":
			rest = rest[1:]
		case !ok:
			if bearer {
				return c
			}
			bearer = strings.EqualFold(name, "Bearer")
			rest = after
		default:
			value, rest = cutValue(strings.TrimLeft(value, " \t"))
			if field := fields[strings.ToLower(name)]; bearer && field != nil && *field == "" {
				*field = value
			}
		}
	}
}

// cutToken cuts a token (RFC 9110 section 5.6.2) off the front of s.
func cutToken(s string) (token, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cutValue cuts the value of a parameter off the front of s: a quoted string
// (RFC 9110 section 5.6.4) or, more generous than a token, all up to a comma or a space.
func cutValue(s string) (value, rest string) {
	quoted, isQuoted := strings.CutPrefix(s, `"`)
	if !isQuoted {
		if i := strings.IndexAny(s, ", \t"); i >= 0 {
			return s[:i], s[i:]
		}
		return s, ""
	}
	var b strings.Builder
	for i := 0; i < len(quoted); i++ {
		switch c := quoted[i]; {
		case c == '"':
			return b.String(), quoted[i+1:]
		case c == '\\' && i+1 < len(quoted):
			i++
			b.WriteByte(quoted[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}
