package transfer_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

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
	eachInBubbles(t, named("503", "500"), func(t *testing.T, mode registrytest.Mode, _ string, status string) {
		w := newWorld(t, mode, registrytest.Options{})
		store := w.reg.ServeOllama(w.net, "store.test", mode, registrytest.Ollama{Direct: true})
		w.reg.Fault("PUT", "", "2*"+status)
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
		assert.Equal(t, 1, store.Count("PUT", ""))
	})
}

// Some Ollama registries tell that they are one with the answer to PATCH, and not before.
func TestU26ProtocolIsLearntFromTheAnswerToPATCH(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		o := registrytest.Ollama{LateLocation: true, ExactParts: true}
		store := w.reg.ServeOllama(w.net, "store.test", mode, o)
		b := w.local(70 << 20)
		opts := w.uploadOptions(b)
		opts.Token = "secret"
		require.NoError(t, w.upload(opts))
		assert.Empty(t, store.Violations())
		assert.Empty(t, store.Tokens())
		assert.Equal(t, b.Size, store.BytesReceived(), "the body is sent once")
		require.Len(t, store.Uploads(), 1)
		assert.Equal(t, []int64{b.Size}, store.Uploads()[0].Sizes)
	})
}

// expiries are what stores say to a signed URL that has expired, for each way to upload.
func expiries() map[string]expiry {
	all := make(map[string]expiry)
	for name, o := range ollamaModes() {
		for _, script := range []string{"s3(403 AccessDenied)", "s3(400 ExpiredToken)"} {
			all[name+" "+script] = expiry{o, script}
		}
	}
	return all
}

type expiry struct {
	ollama registrytest.Ollama
	script string
}

func TestU17SignedUploadURLThatHasExpired(t *testing.T) {
	eachInBubbles(t, expiries(), func(t *testing.T, mode registrytest.Mode, _ string, e expiry) {
		w := newWorld(t, mode, registrytest.Options{})
		store := w.reg.ServeOllama(w.net, "store.test", mode, e.ollama)
		store.Fault("PUT", "", e.script)
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
		puts := store.Requests()
		require.Len(t, puts, 2)
		assert.NotEqual(t, puts[0].Path+puts[0].RawQuery, puts[1].Path+puts[1].RawQuery, "another URL")
		assert.Empty(t, store.Violations())
	})
}

func TestU17SignedUploadURLsThatHaveAlwaysExpired(t *testing.T) {
	eachInBubbles(t, expiries(), func(t *testing.T, mode registrytest.Mode, _ string, e expiry) {
		w := newWorld(t, mode, registrytest.Options{})
		store := w.reg.ServeOllama(w.net, "store.test", mode, e.ollama)
		store.Fault("PUT", "", "**"+e.script)
		err := w.upload(w.uploadOptions(w.local(3 << 20)))
		var status *transfer.StatusError
		require.ErrorAs(t, err, &status)
		assert.LessOrEqual(t, store.Count("PUT", ""), 3, "a new URL is asked for once a body")
	})
}

// No URL is asked for long before there is room to use it.
func TestU17SignedUploadURLsAreUsedInTime(t *testing.T) {
	for name, o := range ollamaModes() {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{SignedFor: 5 * time.Second,
					ExpiredStatus: http.StatusBadRequest})
				store := w.reg.ServeOllama(w.net, "store.test", mode, o)
				store.Fault("PUT", "", "**slow(1M)")
				opts := w.uploadOptions()
				for i := range 8 {
					opts.Blobs = append(opts.Blobs, w.local(4<<20+i))
				}
				opts.Concurrency, opts.BodyConcurrency = 2, 1
				require.NoError(t, w.upload(opts))
				late := 0
				for _, r := range store.Requests() {
					if r.Status == http.StatusBadRequest {
						late++
					}
				}
				assert.LessOrEqual(t, late, 1, "URLs that had expired when they were used")
			})
		})
	}
}

func TestU23RequestTimeoutOfAnObjectStoreIsTemporary(t *testing.T) {
	for name, o := range ollamaModes() {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				store := w.reg.ServeOllama(w.net, "store.test", mode, o)
				store.Fault("PUT", "", "2*s3(400 RequestTimeout)")
				require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
				assert.Equal(t, 3, store.Count("PUT", ""))
			})
		})
	}
}
