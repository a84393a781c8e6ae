package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer"
)

// origin is a registry that wants tokens from all but the cache in front of it,
// which asks at another door.
type origin struct {
	*server              // wants tokens
	door    *server      // does not
	cache   *server      // pulls through the door
	tokens  *tokenClient // for the server
	blobs   []transfer.Blob
	src     string
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	d := newDistribution(t)
	o := &origin{door: d.serve(t), tokens: &tokenClient{}, src: t.TempDir()}
	guarded := &distribution{Configuration: d.Configuration} // the same directory
	o.server = guarded.withToken(newTokenServer(t)).serve(t)
	o.cache = newDistribution(t).withUpstream(o.door.url).serve(t)
	o.blobs = addBlobs(t, o.src, 1, 1000, 100_000, 2*mib, 40*mib)
	push(t, upload(o.door, o.src, o.blobs))
	o.door.forget()
	return o
}

func (o *origin) download(t testing.TB, mirrors ...string) (dst string) {
	t.Helper()
	dst = t.TempDir()
	opts := download(o.server, dst, o.blobs)
	opts.Mirrors, opts.GetToken = mirrors, o.tokens.get
	pull(t, opts)
	requireSame(t, o.src, dst, o.blobs)
	return dst
}

func TestCacheAsMirror(t *testing.T) {
	o := newOrigin(t)
	for _, name := range []string{"cold", "warm"} {
		t.Run(name, func(t *testing.T) {
			o.cache.forget()
			o.download(t, o.cache.url)
			assert.Empty(t, o.server.seen(byLibrary), "the mirror has everything")
			assert.GreaterOrEqual(t, sumSent(o.cache.seen(byLibrary)), sumOf(o.blobs))
			for _, e := range o.cache.seen() {
				assert.Empty(t, e.authorization)
			}
		})
	}
}

func TestMirrorsThatFailAreNotMissed(t *testing.T) {
	o := newOrigin(t)
	empty := newDistribution(t).serve(t)
	closed := serve(t, http.NotFoundHandler(), false)
	liar := serve(t, flipped(newDistribution(t).withUpstream(o.door.url).handler(t)), false)
	guarded := newDistribution(t).withToken(newTokenServer(t)).serve(t)
	for _, tc := range []struct {
		name   string
		mirror *server
	}{
		{"without the blobs", empty},
		{"no registry at all", closed},
		{"with other bytes", liar},
		{"that wants a token", guarded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o.server.forget()
			o.download(t, tc.mirror.url)
			assert.NotEmpty(t, tc.mirror.seen(byLibrary), "it is asked")
			assert.NotEmpty(t, o.server.seen(byLibrary, status(http.StatusOK)))
			for _, e := range tc.mirror.seen() {
				assert.Empty(t, e.authorization)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		o.download(t, "http://127.0.0.1:1")
	})
}

// flipped changes a bit of each blob that is sent.
func flipped(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && kindOf(r.URL.Path) == kindBlob {
			w = &flippingWriter{ResponseWriter: w}
		}
		next.ServeHTTP(w, r)
	})
}

type flippingWriter struct {
	http.ResponseWriter
	done bool
}

func (w *flippingWriter) Write(p []byte) (int, error) {
	if len(p) == 0 || w.done {
		return w.ResponseWriter.Write(p)
	}
	w.done = true
	changed := append([]byte(nil), p...)
	changed[0] ^= 1
	return w.ResponseWriter.Write(changed)
}
