package registry_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

func TestA1TokenServerIsAskedAgain(t *testing.T) {
	for script, want := range map[string]time.Duration{
		"429(retry-after: 7)->503": 7 * time.Second,
		"2*503(retry-after: 3)":    6 * time.Second,
		"reset->hangup->502":       noBackoff,
		"stallheaders->ok":         10 * time.Second,
		"eof(10)->stall(10)":       10 * time.Second,
	} {
		t.Run(script, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				w.put("latest", "weights")
				w.tokens.front.Fault("", "/token", script)
				begun := time.Now()
				_, err := w.open(person).Manifest(t.Context(), "latest")
				require.NoError(t, err)
				assert.GreaterOrEqual(t, time.Since(begun), want)
				assert.Less(t, time.Since(begun), want+2*time.Second)
			})
		})
	}
}

func TestA1TokenServerDoesNotComeBack(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		least  time.Duration
		most   time.Duration
	}{
		"busy":          {"**503", 4 * time.Minute, 6 * time.Minute},
		"asks too much": {"**429(retry-after: 400)", 0, noBackoff},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				w.tokens.front.Fault("", "/token", c.script)
				begun := time.Now()
				_, err := w.open(person).Manifest(t.Context(), "latest")
				require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
				var status *transfer.StatusError
				require.ErrorAs(t, err, &status)
				assert.Contains(t, status.URL, "//auth.test/token")
				assert.GreaterOrEqual(t, time.Since(begun), c.least)
				assert.Less(t, time.Since(begun), c.most, "the token server's budget is all there is")
			})
		})
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.net.Down("auth.test", registrytest.Refused())
		begun := time.Now()
		_, err := w.open(person).Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
		assert.Less(t, time.Since(begun), 10*time.Second, "a host that never answered is given up early")
	})
}

func TestTokenServerRedirects(t *testing.T) {
	for name, c := range map[string]struct {
		who    func(*registry.Options)
		to     string
		status int
		fails  bool
	}{
		"anonymous, elsewhere":      {func(*registry.Options) {}, "//other.test/token", 307, false},
		"password, same host":       {person, "/token?moved=1", 307, false},
		"password, elsewhere":       {person, "//other.test/token", 302, true},
		"password, other port":      {person, "//auth.test:5000/token", 307, true},
		"identity token, same host": {withIdentity, "/token?moved=1", 308, false},
		"identity token, elsewhere": {withIdentity, "//other.test/token", 307, true},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				w.put("latest", "weights")
				var stolen atomic.Int64
				thief := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if body, _ := io.ReadAll(r.Body); r.Header.Get("Authorization") != "" || len(body) > 0 {
						stolen.Add(1)
					}
					w.tokens.serve(rw, r)
				})
				w.net.Serve("other.test", thief, mode)
				w.net.Serve("auth.test:5000", thief, mode)
				w.tokens.front.Fault("", "/token", fmt.Sprintf("%d(location: %s)", c.status, c.to))
				_, err := w.open(c.who).Manifest(t.Context(), "latest")
				assert.Zero(t, stolen.Load())
				if c.fails {
					require.ErrorIs(t, err, transfer.ErrRedirectRefused)
					w.secretFree(err.Error())
					return
				}
				require.NoError(t, err)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1)
		w.net.Serve("auth.test:5000", w.tokens, registrytest.H1)
		w.tokens.front.Fault("", "/token", "307(location: https://auth.test:5000/token)")
		challenge := transfer.AuthChallenge{Realm: "http://auth.test:5000/token"}
		_, err := w.open(person).GetToken(t.Context(), challenge)
		require.ErrorIs(t, err, transfer.ErrRedirectRefused, "another scheme is another server")
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1).protect()
		w.tokens.front.Fault("", "/token", "**307(location: /token)")
		_, err := w.open(person).Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, transfer.ErrRedirectRefused, "in circles")
	})
}

func TestTokenServersThatKnowOneWayOnly(t *testing.T) {
	both := func(o *registry.Options) {
		o.Credentials = registry.Credentials{Username: username, Password: password, IdentityToken: identity}
	}
	nameOnly := func(o *registry.Options) { o.Credentials.Username = username }
	nameAndIdentity := func(o *registry.Options) {
		o.Credentials = registry.Credentials{Username: username, IdentityToken: identity}
	}
	userPassword := username + ":" + password
	for name, c := range map[string]struct {
		who    func(*registry.Options)
		script string
		method string
		want   string
	}{
		"no GET":                                {person, "405", "GET", userPassword},
		"no POST: 404":                          {both, "404", "POST", userPassword},
		"no POST: 401":                          {both, "401", "POST", userPassword},
		"no POST: 400":                          {both, "400", "POST", userPassword},
		"identity token before user":            {both, "", "POST", "refresh:" + identity},
		"a user name without a password":        {nameOnly, "", "GET", username + ":"},
		"no password beside the identity token": {nameAndIdentity, "", "POST", "refresh:" + identity},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				w.put("latest", "weights")
				if c.script != "" {
					w.tokens.front.Fault(c.method, "/token", c.script)
				}
				w.tokens.configure(func(s *tokenServer) { s.anyUser = true })
				begun := time.Now()
				_, err := w.open(c.who).Manifest(t.Context(), "latest")
				require.NoError(t, err)
				list := w.tokens.asked()
				require.Len(t, list, 1)
				assert.Equal(t, c.want, list[0].who)
				assert.Equal(t, []string{pullScope}, list[0].scopes)
				assert.Less(t, time.Since(begun), noBackoff)
			})
		})
	}
}

func TestIdentityTokenIsReplaced(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		w.tokens.configure(func(s *tokenServer) {
			s.answer = func(token string) any {
				s.refresh = "refresh-for-" + token
				return map[string]any{"access_token": token, "refresh_token": s.refresh}
			}
		})
		repo := w.open(withIdentity)
		for range 3 {
			_, err := repo.Manifest(t.Context(), "latest")
			require.NoError(t, err)
			time.Sleep(time.Hour)
		}
		var who []string
		for _, a := range w.tokens.asked() {
			who = append(who, a.who)
		}
		assert.Equal(t, []string{
			"refresh:" + identity, "refresh:refresh-for-token-1-of-auth.test",
			"refresh:refresh-for-token-2-of-auth.test",
		}, who)
	})
}

func TestAnswersOfTokenServers(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		good   bool
	}{
		"token":                     {`{"token":"T"}`, true},
		"access_token":              {`{"access_token":"T","expires_in":"3600"}`, true},
		"odd expiry":                {`{"token":"T","expires_in":1e99}`, true},
		"negative expiry":           {`{"token":"T","expires_in":-5}`, true},
		"expiry of another type":    {`{"token":"T","expires_in":{}}`, true},
		"nothing":                   {``, false},
		"no token":                  {`{}`, false},
		"a web page":                {`<html>T</html>`, false},
		"an array":                  {`["T"]`, false},
		"a number":                  {`{"token":7}`, false},
		"a token with a line break": {`{"token":"T\r\nX-Evil: 1"}`, false},
		"a token that is Basic":     {`{"token":"basic T"}`, false},
		"spaces around a token":     {`{"token":" T"}`, false},
		"cut short":                 {`{"token":"T`, false},
		"too long":                  {`{"token":"` + strings.Repeat("T", 1<<20) + `"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				w.tokens.configure(func(s *tokenServer) { s.raw = &c.answer })
				begun := time.Now()
				token, err := w.open(person).GetToken(t.Context(), transfer.AuthChallenge{Realm: w.realm})
				assert.Less(t, time.Since(begun), noBackoff)
				if c.good {
					require.NoError(t, err)
					assert.Equal(t, "T", token)
					return
				}
				require.ErrorIs(t, err, transfer.ErrProtocol)
				assert.Less(t, len(err.Error()), 300)
				assert.NotContains(t, err.Error(), "X-Evil")
			})
		})
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.tokens.front.Fault("", "/token", "endless")
		_, err := w.open(person).GetToken(t.Context(), transfer.AuthChallenge{Realm: w.realm})
		require.ErrorIs(t, err, transfer.ErrProtocol)
	})
}
