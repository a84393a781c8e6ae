package push_test

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// store is an object store whose URLs are signed for a short time, with the Ollama registry before it.
type store struct {
	w      *world
	url    string
	direct bool          // POST gives out a URL for the whole blob
	late   bool          // nothing of the protocol is shown before the answer to PATCH
	lives  time.Duration // how long a URL is good for
	denied int           // URLs that are refused whenever they are used
	code   int           // the status of a URL that has expired
	body   string        // of its answer
	pace   time.Duration // how long it takes to read a body

	mu    sync.Mutex
	parts [][]byte
	shown []string // what PATCH was asked with
	etag  string
	urls  int
	tries int
}

func (w *world) newStore() *store {
	s := &store{w: w, lives: time.Hour, code: http.StatusForbidden}
	s.url = w.serve("store.test", s.serve)
	w.before(s.registry)
	return s
}

// sign gives out a URL.
func (s *store) sign(path string) string {
	s.urls++
	return fmt.Sprintf("%s%s?number=%d&until=%d", s.url, path, s.urls, time.Now().Add(s.lives).UnixNano())
}

func (s *store) registry(rw http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := fmt.Sprintf("/v2/library/model/blobs/uploads/one?state=%d", len(s.parts))
	switch {
	case r.Method == http.MethodPost:
		if s.late {
			rw.Header().Set("Location", session)
		} else {
			rw.Header().Set("Docker-Upload-Location", session)
		}
		if s.direct {
			rw.Header().Set("X-Direct-Upload-Url", s.sign("/direct"))
		}
		rw.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPatch:
		s.shown = append(s.shown, r.Header.Get("X-Redirect-Uploads"))
		rw.Header().Set("Docker-Upload-Location", session+"&next")
		rw.Header().Set("Location", s.sign("/part"))
		rw.WriteHeader(http.StatusTemporaryRedirect)
	case r.Method == http.MethodPut && r.ContentLength > 0:
		rw.WriteHeader(http.StatusRequestEntityTooLarge)
	case r.Method == http.MethodPut:
		s.etag = r.URL.Query().Get("etag")
		data := slices.Concat(s.parts...)
		if dg := digest.Digest(r.URL.Query().Get("digest")); s.w.reg.Matches(dg, data) {
			s.w.reg.Replace(repository, dg, data)
			rw.WriteHeader(http.StatusCreated)
		} else {
			rw.WriteHeader(http.StatusBadRequest)
		}
	default:
		return false
	}
	return true
}

// serve takes what comes with a URL that is still good.
func (s *store) serve(rw http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.tries++
	var number int
	var until int64
	_, _ = fmt.Sscanf(r.URL.RawQuery, "number=%d&until=%d", &number, &until)
	if number <= s.denied || time.Now().UnixNano() > until || r.Method != http.MethodPut {
		s.mu.Unlock()
		rw.WriteHeader(s.code)
		_, _ = rw.Write([]byte(s.body))
		return
	}
	s.mu.Unlock()
	data := s.read(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = append(s.parts, data)
}

// read reads a body, some at a time.
func (s *store) read(r *http.Request) []byte {
	const steps = 20
	data := make([]byte, max(r.ContentLength, 0))
	read := 0
	for range steps {
		n, _ := io.ReadFull(r.Body, data[read:read+len(data)/steps])
		read += n
		time.Sleep(s.pace / steps)
	}
	rest, _ := io.ReadAll(r.Body)
	return append(data[:read], rest...)
}

// sum is the composite etag of the parts.
func (s *store) sum() string {
	sums := md5.New()
	for _, p := range s.parts {
		sum := md5.Sum(p)
		sums.Write(sum[:])
	}
	return fmt.Sprintf("%s-%d", hex.EncodeToString(sums.Sum(nil)), len(s.parts))
}

const expiredToken = `{"errors":[{"code":"ExpiredToken","message":"The provided token has expired."}]}`

func TestU17SignedURLExpires(t *testing.T) {
	for name, c := range map[string]struct {
		direct bool
		code   int
		body   string
	}{
		"direct 403": {direct: true, code: 403}, "direct 400": {direct: true, code: 400, body: expiredToken},
		"part 403": {code: 403}, "part 400": {code: 400, body: expiredToken},
	} {
		for _, denied := range []int{1, 1000} {
			t.Run(fmt.Sprint(name, " ", denied), func(t *testing.T) {
				registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
					w := newWorld(t, mode, registrytest.Options{})
					s := w.newStore()
					s.direct, s.code, s.body, s.denied = c.direct, c.code, c.body, denied
					b := w.local(3 << 20)
					err := w.push(b, "")
					if denied == 1 {
						require.NoError(t, err)
						w.requireStored(b)
						return
					}
					var status *statusError
					require.ErrorAs(t, err, &status)
					assert.Equal(t, c.code, status.Status)
					assert.Equal(t, 2, s.tries, "a new URL is asked for once")
				})
			})
		}
	}
}

// A session whose direct upload is refused was opened all the same.
func TestU12SessionOfARefusedDirectUploadIsDeleted(t *testing.T) {
	cases := map[string]struct {
		header  string
		cause   error
		deleted int
	}{
		"a header of the registry": {"X-Signed-Header-Authorization: x", sentinel.ErrProtocol, 1},
		"a malformed URL":          {"X-Direct-Upload-Url: ftp://store.test/x", wire.ErrRedirectRefused, 1},
		"a malformed session": {
			"X-Direct-Upload-Url: ftp://store.test/x; Docker-Upload-Location: ftp://x/y",
			wire.ErrRedirectRefused, 0,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.ServeOllama(w.net, "store.test", mode, registrytest.Ollama{Direct: true})
				w.reg.Fault("POST", "/uploads/", "header("+c.header+")")
				require.ErrorIs(t, w.push(w.local(3<<20), ""), c.cause)
				assert.Equal(t, c.deleted, w.reg.Count("DELETE", ""))
				assert.Equal(t, 1-c.deleted, w.reg.Sessions())
			})
		})
	}
}

// A store may refuse a body for good, as one does that has a bucket of another name.
func TestU17RefusalThatIsNoExpiry(t *testing.T) {
	cases := map[string]bool{"direct": true, "part": false}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, direct bool) {
		w := newWorld(t, mode, registrytest.Options{})
		s := w.newStore()
		s.direct, s.denied, s.code = direct, 1000, http.StatusBadRequest
		s.body = `{"errors":[{"code":"InvalidBucketName","message":"no"}]}`
		var status *statusError
		require.ErrorAs(t, w.push(w.local(3<<20), ""), &status)
		assert.Equal(t, http.StatusBadRequest, status.Status)
		assert.Equal(t, 1, s.tries)
	})
}

// The URL of a session that is elsewhere is all that there is of it: no other can be asked for.
func TestU17SessionElsewhereIsForbidden(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		puts := 0
		elsewhere := w.serve("elsewhere.test", func(rw http.ResponseWriter, r *http.Request) {
			puts++
			rw.WriteHeader(http.StatusForbidden)
		})
		w.reg.Fault("POST", "", "**202(location: "+elsewhere+"/session)")
		var status *statusError
		require.ErrorAs(t, w.push(w.local(3<<20), ""), &status)
		assert.Equal(t, http.StatusForbidden, status.Status)
		assert.Equal(t, 1, puts)
	})
}

func TestU17RedirectToAStoreExpires(t *testing.T) {
	for _, size := range []int{3 << 20, 9 << 20} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{})
			cdn := w.reg.CDN()
			w.reg.Configure(func(o *registrytest.Options) {
				o.RedirectUploads = registrytest.To(w.net.Serve("cdn.test", cdn, mode).URL)
			})
			cdn.Fault("PUT", "", "403")
			b := w.local(size)
			require.NoError(t, w.push(b, ""))
			cdn.Wait()
			w.requireStored(b)
			assert.Equal(t, b.size(), cdn.BytesReceived())
			assert.Equal(t, 1, w.reg.Count("POST", ""), "the session is as it was")
		})
	}
}

// A refusal that comes after the whole body may be wrong: it is asked first whether the blob is there.
func TestU17StoreRefusesWhatItHasStored(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		w.reg.Configure(func(o *registrytest.Options) {
			o.RedirectUploads = registrytest.To(w.net.Serve("cdn.test", cdn, mode).URL)
		})
		cdn.Fault("PUT", "", "swallow+403")
		b := w.local(3 << 20)
		require.NoError(t, w.push(b, ""))
		cdn.Wait()
		w.requireStored(b)
		assert.Equal(t, b.size(), cdn.BytesReceived())
		assert.Equal(t, 1, w.reg.Count("PUT", ""))
	})
}

// What the registry itself refuses has no URL that was signed for a short time.
func TestU17RegistryRefuses(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", "**403")
		var status *statusError
		require.ErrorAs(t, w.push(w.local(3<<20), ""), &status)
		assert.Equal(t, http.StatusForbidden, status.Status)
		assert.Equal(t, 1, w.reg.Count("PUT", ""))
	})
}

// Each body may find its URL too old once.
func TestU17EachChunkMayExpireOnce(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 2 << 20})
		cdn := w.reg.CDN()
		w.reg.Configure(func(o *registrytest.Options) {
			o.RedirectUploads = registrytest.To(w.net.Serve("cdn.test", cdn, mode).URL)
		})
		script := cdn.Fault("PATCH", "", "ok->403->header(-location)->403->header(-location)")
		b := w.local(4 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.True(t, script.Done())
	})
}

// A URL that lives shorter than the blobs before it take is not asked for before a slot is free.
func TestU17URLsAreAskedForWhenASlotIsFree(t *testing.T) {
	cases := registrytest.Named(true, false)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, direct bool) {
		const blobs = 8
		w := newWorld(t, mode, registrytest.Options{})
		w.bodies = 1
		s := w.newStore()
		s.direct, s.lives, s.pace = direct, 3*time.Second, 2*time.Second
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut { // the store has the blobs of all sessions in one heap
				rw.WriteHeader(http.StatusCreated)
				return true
			}
			return s.registry(rw, r)
		})
		p := w.pusher(w.server.URL)
		require.NoError(t, w.pushWith(t.Context(), p, w.local(2000), ""), "it shows how it wants blobs")
		var g errgroup.Group
		for i := range blobs {
			b := w.local(2<<20 + i)
			g.Go(func() error { return w.pushWith(t.Context(), p, b, "") })
		}
		require.NoError(t, g.Wait())
		assert.Equal(t, 1+blobs, s.tries, "no URL has expired")
	})
}

func TestU26ProtocolIsLearntFromTheAnswerToPatch(t *testing.T) {
	for _, size := range []int{3 << 20, 101 << 20} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			s := w.newStore()
			s.late = true
			b := w.local(size)
			require.NoError(t, w.push(b, ""))
			w.requireStored(b)
			assert.Equal(t, s.sum(), s.etag)
			assert.Equal(t, strings.Repeat("1", len(s.parts)), strings.Join(s.shown[1:], ""))
			assert.Len(t, s.parts[0], min(size, 100<<20), "the size of a part")
		})
	}
}

// A registry that has taken a chunk itself and sends the next one off gets the blob anew, in parts.
func TestU26ProtocolIsLearntInTheMiddle(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		s := w.newStore()
		s.late = true
		taken := int64(0)
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			inChunks := r.Header.Get("X-Redirect-Uploads") == ""
			if r.Method == http.MethodPatch && r.ContentLength > 2<<20 && inChunks {
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
				return true
			}
			if r.Method == http.MethodPatch && taken == 0 {
				taken = drain(r)
				rw.WriteHeader(http.StatusAccepted)
				return true
			}
			return s.registry(rw, r)
		})
		b := w.local(3 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.NotZero(t, taken)
		require.Len(t, s.parts, 1)
		assert.Equal(t, s.sum(), s.etag)
	})
}

func TestU26PartThatFailsIsSentAgainAlone(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		s := w.newStore()
		s.denied, s.code = 1, http.StatusServiceUnavailable
		b := w.local(3 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.Equal(t, 2, w.reg.Count("POST", ""), "the second tells the digest")
		assert.Len(t, s.shown, 2)
		assert.Equal(t, s.sum(), s.etag)
	})
}
