package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// clientID names this program to a token server that speaks OAuth 2.0.
	clientID = "modeltransfer"

	// maxTokenAnswer is the largest answer of a token server that is read. Tokens of some KiB exist.
	maxTokenAnswer = 1 << 20 // 1 MiB

	// defaultExpiry is how long a token is good that does not say it (distribution project, "Token
	// Authentication").
	defaultExpiry = time.Minute
)

// maxRedirects is the most redirects of a request with credentials.
const maxRedirects = 5

// minSecret is from how many bytes on a secret is kept out of errors: taking out fewer would spoil them.
const minSecret = 4

// grant is what a token server gives.
type grant struct {
	token   string
	expires time.Time // zero: never
	refresh string    // the identity token from now on, mostly ""
}

// errNoMethod means that the token server does not know the way it was asked.
var errNoMethod = errors.New("the token server does not know this method")

// tokenServer is the server that a challenge names, and who asks it.
type tokenServer struct {
	call    *call
	realm   wire.Target
	service string
	who     Credentials
	secrets wire.Secrets // what no error may quote
}

// newTokenServer returns the token server at the realm.
func newTokenServer(c *call, realm wire.Target, service string, who Credentials) *tokenServer {
	s := &tokenServer{call: c, realm: realm, service: service, who: who}
	identity := c.repo.auth.identity(who.IdentityToken)
	for _, secret := range []string{who.Password, identity, strings.TrimPrefix(who.basic(), "Basic ")} {
		if len(secret) >= minSecret {
			s.secrets.Add(secret)
		}
	}
	return s
}

// ask gets a token, with retries.
func (s *tokenServer) ask(ctx context.Context, want scopes) (grant, error) {
	var g grant
	var err error
	for _, way := range s.ways() {
		err = s.call.Retry(ctx, s.realm, func(ctx context.Context, b *retry.Budget) error {
			g, err = s.send(ctx, b, way(want))
			return err
		})
		// A password that was refused is not tried another way, because that may count as a second failure.
		if !errors.Is(err, errNoMethod) && (s.who.IdentityToken == "" || !isRefusal(err)) {
			break
		}
	}
	if isRefusal(err) {
		err = fmt.Errorf("%w: %w", refusal(err), err)
	}
	if err != nil {
		return grant{}, finalError{fmt.Errorf("token server %s: %w", s.realm.URL.Host, err)}
	}
	if g.refresh != "" && s.who.IdentityToken != "" {
		s.call.repo.auth.rotate(s.who.IdentityToken, g.refresh)
	}
	return g, nil
}

// refusal returns which refusal of a token server it is.
func refusal(err error) error {
	status, _ := errors.AsType[*transfer.StatusError](err)
	denied := func(e transfer.RegistryError) bool {
		return strings.EqualFold(e.Code, "DENIED") ||
			strings.HasPrefix(e.Message, "invalid_scope") // RFC 6749 section 5.2
	}
	if status.StatusCode == http.StatusForbidden || slices.ContainsFunc(status.Errors, denied) {
		return ErrDenied
	}
	return ErrUnauthorized
}

// finalError is a failure that was tried again for long enough, so that nobody else tries again.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// Temporary is what package transfer asks an error of GetToken.
func (finalError) Temporary() bool { return false }

// Timeout is what it asks too.
func (finalError) Timeout() bool { return false }

// ways returns how to ask, in this order: as OAuth 2.0 says where there is an identity token, otherwise
// as the distribution project's "Token Authentication" does. The second way is for token servers that
// do not know the first.
func (s *tokenServer) ways() []func(scopes) wire.Request {
	hasPassword := s.who.Username != "" && s.who.Password != ""
	switch {
	case s.who.IdentityToken != "" && hasPassword:
		return []func(scopes) wire.Request{s.byIdentity, s.get}
	case s.who.IdentityToken != "":
		return []func(scopes) wire.Request{s.byIdentity}
	case hasPassword:
		return []func(scopes) wire.Request{s.get, s.byPassword}
	}
	return []func(scopes) wire.Request{s.get}
}

// get asks anonymously, or with user and password.
func (s *tokenServer) get(want scopes) wire.Request {
	target := s.realm
	if s.service != "" {
		target = target.WithQuery("service", s.service)
	}
	for _, scope := range want.list() {
		target = target.WithQuery("scope", scope)
	}
	if s.who.Username == "" {
		return wire.Request{Method: http.MethodGet, Target: target}
	}
	return wire.Request{
		Method: http.MethodGet, Target: target.WithQuery("account", s.who.Username),
		Header: http.Header{"Authorization": {s.who.basic()}}, NoFollow: true,
	}
}

// byIdentity asks with the identity token (RFC 6749 section 6).
func (s *tokenServer) byIdentity(want scopes) wire.Request {
	return s.form(want, url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {s.call.repo.auth.identity(s.who.IdentityToken)},
	})
}

// byPassword asks with user and password (RFC 6749 section 4.3).
func (s *tokenServer) byPassword(want scopes) wire.Request {
	return s.form(want, url.Values{
		"grant_type": {"password"}, "username": {s.who.Username}, "password": {s.who.Password},
	})
}

// form asks as the distribution project's "OAuth2 Token Authentication" says.
func (s *tokenServer) form(want scopes, form url.Values) wire.Request {
	form.Set("service", s.service)
	form.Set("client_id", clientID)
	form.Set("scope", strings.Join(want.list(), " "))
	body := []byte(form.Encode())
	return wire.Request{
		Method: http.MethodPost, Target: s.realm, NoFollow: true,
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		Data:   body,
	}
}

// send sends a request and reads the token of its answer.
func (s *tokenServer) send(ctx context.Context, b *retry.Budget, r wire.Request) (grant, error) {
	asked := time.Now()
	resp, err := s.follow(ctx, b, r)
	if err != nil {
		return grant{}, err
	}
	if exchange.Failed(resp.StatusCode) {
		return grant{}, s.failure(resp)
	}
	ans, err := calls.Read(resp, maxTokenAnswer)
	if err != nil {
		return grant{}, err
	}
	return readGrant(ans, asked)
}

// follow sends a request. One that has credentials is redirected only within the origin of the realm, so that
// nobody else sees them.
func (s *tokenServer) follow(
	ctx context.Context, b *retry.Budget, r wire.Request,
) (*exchange.Response, error) {
	for range maxRedirects {
		resp, err := s.call.Exchange.Do(ctx, exchange.Request{Request: r, MaySlow: true, Budget: b})
		if err != nil || !wire.IsRedirect(resp.StatusCode) {
			return resp, err
		}
		resp.Discard()
		next, err := r.Target.Resolve(resp.Header.Get("Location"))
		if err != nil {
			return nil, err
		}
		if next.URL.Scheme != r.Target.URL.Scheme || !strings.EqualFold(next.URL.Host, r.Target.URL.Host) {
			return nil, fmt.Errorf("%w: %s leads to %s, which would see the credentials",
				transfer.ErrRedirectRefused, wire.Redact(r.Target.URL), wire.Redact(next.URL))
		}
		r.Target = next
	}
	return nil, fmt.Errorf("%w: more than %d redirects, the last to %s", transfer.ErrRedirectRefused,
		maxRedirects, wire.Redact(r.Target.URL))
}

// failure returns the error of an answer, without what is secret in it.
func (s *tokenServer) failure(resp *exchange.Response) error {
	f := s.call.Exchange.Failure(resp)
	_ = resp.Body.Close()
	f.Elsewhere = true // what is said of the registry's token is not said of the password
	for i, e := range f.Errors {
		f.Errors[i] = wire.RegistryError{Code: s.secrets.Mask(e.Code), Message: s.secrets.Mask(e.Message)}
	}
	err := s.call.Exchange.Err(f)
	if f.Status == http.StatusNotFound || f.Status == http.StatusMethodNotAllowed {
		return fmt.Errorf("%w: %w", errNoMethod, err)
	}
	return err
}

// readGrant reads the answer of a token server. Its errors do not quote it, because there may be a token in
// it.
func readGrant(a *calls.Answer, asked time.Time) (grant, error) {
	var told struct {
		Token        string          `json:"token"`
		AccessToken  string          `json:"access_token"`
		RefreshToken string          `json:"refresh_token"`
		ExpiresIn    json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(a.Data, &told) != nil {
		return grant{}, a.Broken("the answer is not the JSON of a token")
	}
	g := grant{token: told.Token, refresh: told.RefreshToken}
	if g.token == "" {
		g.token = told.AccessToken
	}
	if g.token == "" {
		return grant{}, a.Broken("there is no token in the answer")
	}
	if !wire.IsBearerToken(g.token) {
		return grant{}, a.Broken("the token cannot be sent")
	}
	g.expires = asked.Add(expiry(told.ExpiresIn) - expiryMargin)
	return g, nil
}

// expiry reads how many seconds a token is good. Some servers write the number as a string
// (distribution#1746).
func expiry(text json.RawMessage) time.Duration {
	seconds, err := strconv.ParseInt(strings.Trim(string(text), `"`), 10, 32)
	if err != nil || seconds <= 0 {
		return defaultExpiry
	}
	return time.Duration(seconds) * time.Second
}
