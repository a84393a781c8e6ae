package exchange_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newExchange returns an exchange whose requests are answered by a function, and the URL that they go to.
func newExchange(t *testing.T, get exchange.GetToken, answer roundTripper) (*exchange.Exchange, wire.Target) {
	t.Helper()
	registry, err := wire.ParseRegistry("http://registry.test")
	require.NoError(t, err)
	return exchange.New(exchange.Config{
		Registry: registry, Client: wire.NewClient(&http.Client{Transport: answer}, "test", 1),
		Watchdog: watchdog.New(time.Minute, nil), Tokens: exchange.NewTokens(t.Context(), "", get),
		Log: slog.New(slog.DiscardHandler),
	}), registry.Manifest("library/model", "latest")
}

// Distribution gives the parts and the actions of a scope in the order of a map, another one each time.
func TestN23OneTokenForAScopeInAnyOrder(t *testing.T) {
	const first = "repository:a:pull,push repository:b:pull"
	for _, second := range []string{
		first,
		"repository:a:push,pull repository:b:pull",
		"repository:b:pull repository:a:pull,push",
	} {
		t.Run(second, func(t *testing.T) {
			var asked []exchange.Challenge
			get := func(_ context.Context, c exchange.Challenge) (string, error) {
				asked = append(asked, c)
				return fmt.Sprintf("token-%d", len(asked)), nil
			}
			var ask func() // a request from its beginning to its end
			scopes := []string{second, first}
			x, target := newExchange(t, get, func(r *http.Request) (*http.Response, error) {
				resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
				if r.Header.Get("Authorization") != "" || len(scopes) == 0 {
					return resp, nil
				}
				scope := scopes[0]
				scopes = scopes[1:]
				if len(scopes) > 0 {
					ask() // while this one is under way
				}
				resp.StatusCode = http.StatusUnauthorized
				resp.Header.Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://registry.test/t",scope=%q`, scope))
				return resp, nil
			})
			ask = func() {
				_, err := x.Ask(t.Context(), exchange.Request{
					Request: wire.Request{Method: http.MethodGet, Target: target},
				})
				assert.NoError(t, err)
			}
			ask()
			assert.Empty(t, scopes, "both requests were refused")
			assert.Equal(t, []exchange.Challenge{{Realm: "http://registry.test/t", Scope: first}}, asked)
		})
	}
}
