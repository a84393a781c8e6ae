package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/modeltransfer/transfer"
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
	repo    *Repository
	realm   wire.Target
	service string
	who     Credentials
}

// ask gets a token, with retries.
func (s tokenServer) ask(ctx context.Context, want scopes) (grant, error) {
	var g grant
	var err error
	for _, way := range s.ways() {
		err = s.repo.retry(ctx, func() error {
			g, err = way(ctx, want)
			return err
		})
		// A password that was refused is not tried another way, because that may count as a second failure.
		if !errors.Is(err, errNoMethod) && (s.who.IdentityToken == "" || !isRefusal(err)) {
			break
		}
	}
	if isRefusal(err) {
		err = fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	if err != nil {
		return grant{}, fmt.Errorf("token server %s: %w", s.realm.URL.Host, err)
	}
	if g.refresh != "" && s.who.IdentityToken != "" {
		s.repo.auth.rotate(s.who.IdentityToken, g.refresh)
	}
	return g, nil
}

// ways returns how to ask, in this order: as OAuth 2.0 says where there is an identity token, otherwise
// as the distribution project's "Token Authentication" does. The second way is for token servers that
// do not know the first.
func (s tokenServer) ways() []func(context.Context, scopes) (grant, error) {
	hasPassword := s.who.Username != "" && s.who.Password != ""
	switch {
	case s.who.IdentityToken != "" && hasPassword:
		return []func(context.Context, scopes) (grant, error){s.post, s.get}
	case s.who.IdentityToken != "":
		return []func(context.Context, scopes) (grant, error){s.post}
	case hasPassword:
		return []func(context.Context, scopes) (grant, error){s.get, s.postPassword}
	}
	return []func(context.Context, scopes) (grant, error){s.get}
}

// get asks anonymously, or with user and password.
func (s tokenServer) get(ctx context.Context, want scopes) (grant, error) {
	target := s.realm
	if s.service != "" {
		target = target.WithQuery("service", s.service)
	}
	for _, scope := range want.list() {
		target = target.WithQuery("scope", scope)
	}
	req := request{Request: wire.Request{Method: http.MethodGet, Target: target}, limit: maxTokenAnswer}
	if s.who.Username != "" {
		req.Target = target.WithQuery("account", s.who.Username)
		req.authorization = s.who.basic()
		req.secrets = []string{s.who.Password, strings.TrimPrefix(s.who.basic(), "Basic ")}
	}
	return s.send(ctx, req)
}

// post asks with the identity token (RFC 6749 section 6).
func (s tokenServer) post(ctx context.Context, want scopes) (grant, error) {
	identity := s.repo.auth.identity(s.who.IdentityToken)
	return s.sendForm(ctx, want, identity, url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {identity},
	})
}

// postPassword asks with user and password (RFC 6749 section 4.3).
func (s tokenServer) postPassword(ctx context.Context, want scopes) (grant, error) {
	return s.sendForm(ctx, want, s.who.Password, url.Values{
		"grant_type": {"password"}, "username": {s.who.Username}, "password": {s.who.Password},
	})
}

// sendForm asks as the distribution project's "OAuth2 Token Authentication" says.
func (s tokenServer) sendForm(
	ctx context.Context, want scopes, secret string, form url.Values,
) (grant, error) {
	form.Set("service", s.service)
	form.Set("client_id", clientID)
	form.Set("scope", strings.Join(want.list(), " "))
	body := []byte(form.Encode())
	return s.send(ctx, request{
		Request: wire.Request{
			Method: http.MethodPost, Target: s.realm, Length: int64(len(body)),
			Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
			Body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		},
		limit: maxTokenAnswer, confined: true, secrets: []string{secret},
	})
}

// send sends one request.
func (s tokenServer) send(ctx context.Context, req request) (grant, error) {
	asked := time.Now()
	ans, err := s.repo.send(ctx, req)
	if err != nil {
		return grant{}, err
	}
	switch ans.status {
	case http.StatusOK:
		return parseGrant(ans.body, asked)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return grant{}, fmt.Errorf("%w: %w", errNoMethod, ans.err())
	}
	return grant{}, ans.err()
}

// parseGrant reads the answer of a token server. Its errors do not quote it, because there may be a
// token in it.
func parseGrant(body []byte, asked time.Time) (grant, error) {
	var a struct {
		Token        string          `json:"token"`
		AccessToken  string          `json:"access_token"`
		RefreshToken string          `json:"refresh_token"`
		ExpiresIn    json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(body, &a) != nil {
		return grant{}, fmt.Errorf("%w: an answer that is not the JSON of a token", transfer.ErrProtocol)
	}
	g := grant{token: a.Token, refresh: a.RefreshToken}
	if g.token == "" {
		g.token = a.AccessToken
	}
	if g.token == "" {
		return grant{}, fmt.Errorf("%w: an answer without a token", transfer.ErrProtocol)
	}
	// A token with a space would be sent as something else than a bearer token.
	if strings.ContainsFunc(g.token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return grant{}, fmt.Errorf("%w: a token that cannot be sent (RFC 6750 section 2.1)", transfer.ErrProtocol)
	}
	g.expires = asked.Add(expiry(a.ExpiresIn) - expiryMargin)
	return g, nil
}

// expiry reads how many seconds a token is good; some servers write the number as a string.
func expiry(text json.RawMessage) time.Duration {
	seconds, err := strconv.ParseInt(strings.Trim(string(text), `"`), 10, 32)
	if err != nil || seconds <= 0 {
		return defaultExpiry
	}
	return time.Duration(seconds) * time.Second
}
