package exchange_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
)

// scoped returns a request that wants a token of a scope.
func (w *world) scoped(scope string) exchange.Request {
	r := w.head()
	r.Header = http.Header{"Scope": {scope}}
	return r
}

// Mounts from several repositories may each need a token of their own.
func TestN23OneRenewalForEachScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		get := func(_ context.Context, c exchange.Challenge) (string, error) {
			time.Sleep(time.Second) // so that all are refused before the first token is there
			return "for " + c.Scope, nil
		}
		var mu sync.Mutex
		asked, shown := map[string]int{}, map[string]int{}
		w := newWorld(t, get, func(r *http.Request) (*http.Response, error) {
			scope := r.Header.Get("Scope")
			token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			mu.Lock()
			defer mu.Unlock()
			if token != "for "+scope {
				asked[scope]++
				return challenged(scope), nil
			}
			shown[token]++
			return says(200, ""), nil
		})
		var done []<-chan error
		for _, scope := range []string{"a", "b", "c", "a", "b", "c"} {
			done = append(done, w.start(w.scoped(scope)))
		}
		for _, d := range done {
			require.NoError(t, <-d)
		}
		assert.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2}, asked, "each was refused once")
		assert.Equal(t, map[string]int{"for a": 2, "for b": 2, "for c": 2}, shown)
	})
}

// Where a token has led off the registry, a 401 is that of somebody who must not see one.
func TestN30RefusalElsewhereIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		get := func(context.Context, exchange.Challenge) (string, error) { panic("is not asked") }
		w := newWorld(t, get, inTurn(to("store.test"), challenged("s")))
		err := w.ask(w.head())
		var status *statusError
		require.ErrorAs(t, err, &status)
		assert.Equal(t, 401, status.Status)
		assert.True(t, status.Elsewhere)
		assert.Equal(t, []string{"registry.test first", "store.test"}, w.requests())
	})
}

// Distribution gives the parts and the actions of a scope in the order of a map, another one each time.
func TestN23OneTokenForAScopeInAnyOrder(t *testing.T) {
	const first = "repository:a:pull,push repository:b:pull"
	for _, second := range []string{
		first,
		"repository:a:push,pull repository:b:pull",
		"repository:b:pull repository:a:pull,push",
	} {
		inBubble(t, second, func(t *testing.T) {
			var asked []string
			get := func(_ context.Context, c exchange.Challenge) (string, error) {
				asked = append(asked, c.Scope)
				return "second", nil
			}
			w := newWorld(t, get, func(r *http.Request) (*http.Response, error) {
				if r.Header.Get("Authorization") == "Bearer second" {
					return says(200, ""), nil
				}
				if r.Header.Get("Late") != "" {
					time.Sleep(time.Second) // the other request has its token meanwhile
				}
				return challenged(r.Header.Get("Scope")), nil
			})
			early, late := w.scoped(first), w.scoped(second)
			late.Header.Set("Late", "yes")
			refused := w.start(late)
			synctest.Wait()
			require.NoError(t, <-w.start(early))
			require.NoError(t, <-refused)
			assert.Equal(t, []string{first}, asked)
		})
	}
}

// Where answers have come through a proxy, its name exists, whatever a resolver says for a while.
func TestE6ProxyWhoseNameIsUnknownForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := &net.OpError{Op: "proxyconnect", Err: &net.OpError{Op: "dial", Err: &net.DNSError{
			Err: "no such host", Name: "proxy.test", IsNotFound: true,
		}}}
		var answers atomic.Bool
		w := newWorld(t, nil, func(*http.Request) (*http.Response, error) {
			if answers.Load() {
				return says(200, ""), nil
			}
			return nil, gone
		})
		assert.False(t, retry.Retryable(<-w.start(w.head())), "misspelt")
		answers.Store(true)
		require.NoError(t, <-w.start(w.head()))
		answers.Store(false)
		err := <-w.start(w.head())
		require.ErrorIs(t, err, gone)
		assert.True(t, retry.Retryable(err))
	})
}
