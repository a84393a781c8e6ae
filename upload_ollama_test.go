package transfer_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// ollamaModes are the ways in which an Ollama registry takes a blob.
func ollamaModes() map[string]registrytest.Ollama {
	signed := http.Header{"X-Amz-Checksum-Sha256": {"abc"}, "Content-Type": {"binary/x"}}
	return map[string]registrytest.Ollama{"direct": {Direct: true, SignedHeaders: signed}, "parts": {}}
}

func TestOllamaUploads(t *testing.T) {
	for name, o := range ollamaModes() {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{Token: "secret"})
				store := w.reg.ServeOllama(w.net, "store.test", mode, o)
				b := w.local(70 << 20)
				opts := w.uploadOptions(b)
				opts.Token = "secret"
				require.NoError(t, w.upload(opts))
				assert.Empty(t, store.Violations())
				assert.Empty(t, store.Tokens(), "the store must not see the token")
				assert.Equal(t, b.Size, store.BytesReceived())
				require.Len(t, store.Uploads(), 1)
				assert.Equal(t, o.Direct, store.Uploads()[0].Direct)
				post := w.reg.Requests()[1]
				assert.Equal(t, "2", post.Header.Get("X-Redirect-Uploads"))
				assert.Equal(t, fmt.Sprint(b.Size), post.Header.Get("X-Content-Length"))
			})
		})
	}
}

func TestU12SignedHeadersThatAreNotTheRegistrysBusiness(t *testing.T) {
	cases := named("Host", "Authorization", "Cookie", "Content-Length", "Transfer-Encoding", "Connection")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, header string) {
		w := newWorld(t, mode, registrytest.Options{})
		o := registrytest.Ollama{Direct: true, SignedHeaders: http.Header{header: {"x"}}}
		store := w.reg.ServeOllama(w.net, "store.test", mode, o)
		require.ErrorIs(t, w.upload(w.uploadOptions(w.local(100))), transfer.ErrProtocol)
		assert.Empty(t, store.Requests())
		assert.Equal(t, 1, w.reg.Count("POST", ""), "no second try would mend it")
	})
}

func TestU11DirectUploadIsSentOnce(t *testing.T) {
	for _, status := range []string{"503", "500"} {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{})
			store := w.reg.ServeOllama(w.net, "store.test", mode, registrytest.Ollama{Direct: true})
			w.reg.Fault("PUT", "", "2*"+status)
			require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
			assert.Equal(t, 1, store.Count("PUT", ""))
		})
	}
}
