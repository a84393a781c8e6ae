package consumer_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// many returns layers in many sizes, made by local or remote.
func many(n int, make func(size int) layer) (layers []layer) {
	for i := range n {
		layers = append(layers, make(1000+i))
	}
	return layers
}

// With 160 requests in flight, a token that dies after 40 is refused to many of them again and again. Only
// the refusal of the newest token counts.
func TestN23TokensThatDieWithManyInFlight(t *testing.T) {
	const life, concurrency, blobs = 40, 160, 320
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{})
		w.guard(life)
		w.concurrency, w.streams = concurrency, concurrency
		layers := many(blobs, w.local)
		require.NoError(t, w.push(t.Context(), repository, "latest", layers, manifestOf(t, layers...), nil))
		w.requirePushed(layers...)
		requests := len(w.reg.Requests())
		assert.Greater(t, w.tokens.issued(), blobs/life)
		assert.LessOrEqual(t, w.tokens.issued(), requests/life+1, "one token for all that were refused")
		assert.Equal(t, concurrency, w.meter.most)

		w.blobs = t.TempDir()
		require.NoError(t, w.pull(t.Context(), repository, layers, nil))
		w.requirePulled(layers...)
	})
}

// A token is asked for with a signature, once for all who need it, and kept for the whole call.
func TestN23SignedTokens(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{})
		w.guard(0)
		layers := many(40, w.local)
		require.NoError(t, w.push(t.Context(), repository, "latest", layers, manifestOf(t, layers...), nil))
		w.blobs = t.TempDir()
		require.NoError(t, w.pull(t.Context(), repository, layers, nil))
		w.requirePulled(layers...)
		assert.LessOrEqual(t, w.tokens.issued(), 3, "to ask, to push, to pull")
		for _, scope := range w.tokens.scopes {
			assert.Contains(t, scope, "repository:"+repository+":")
		}
	})
}

// refusal is an answer in place of the registry's.
type refusal struct {
	status            int
	contentType, body string
	says              string // what programs look for in the error, to tell their user what to do
}

func (f refusal) serve(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodHead && f.body != "" {
		return false // its answer has no body, so that this would test nothing
	}
	if f.contentType != "" {
		w.Header().Set("Content-Type", f.contentType)
	}
	w.WriteHeader(f.status)
	_, _ = w.Write([]byte(f.body))
	return true
}

func TestN23ErrorsSayWhatTheServerSaid(t *testing.T) {
	cases := registrytest.Named(
		refusal{401, "text/plain", "unauthorized: access denied\n", "unauthorized"},
		refusal{403, "text/plain", "access denied", "access denied"},
		refusal{403, "application/json", `{"error":"access denied"}`, "access denied"},
		refusal{401, "application/json", `{"error":"unauthorized"}`, "unauthorized"},
		refusal{403, "", `{"message":"you may not push here"}`, "you may not push here"},
		refusal{
			400, "application/json",
			`{"errors":[{"code":"DENIED","message":"too much"}]}`, "DENIED: too much",
		},
		refusal{401, "", "", "unauthorized"},
		refusal{403, "", "", "access denied"},
	)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c refusal) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{})
		own, there := w.local(100), w.remote(200)
		w.reg.Configure(func(o *registrytest.Options) { o.Before = c.serve })
		pull := w.pull(t.Context(), repository, []layer{there}, nil)
		push := w.push(t.Context(), repository, "latest", []layer{own}, nil, nil)
		for _, err := range []error{pull, push} {
			require.ErrorContains(t, err, c.says)
			var status *transfer.StatusError
			require.ErrorAs(t, err, &status)
			assert.Equal(t, c.status, status.StatusCode)
		}
	})
}

// denied is a token server that refuses at "/denied".
func denied(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != "/denied" {
		return false
	}
	http.Error(w, `{"error":"unauthorized: unknown key"}`, http.StatusUnauthorized)
	return true
}

// What GetToken says is in the error of the call.
func TestN23ErrorOfTheTokenServer(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{})
		w.guard(0)
		w.reg.Configure(func(o *registrytest.Options) {
			realm := w.base.String() + "/denied"
			o.Challenge = `Bearer realm="` + realm + `",service="x",scope="repository:me/model:pull"`
			o.Before = denied
		})
		err := w.pull(t.Context(), repository, []layer{w.remote(100)}, nil)
		require.ErrorContains(t, err, "unauthorized: unknown key")
		assert.NotContains(t, err.Error(), "attempts", "it is not worth another attempt")
	})
}
