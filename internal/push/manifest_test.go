package push_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// slowManifest is a registry that stores a manifest 30 s after it has first arrived, and does not answer, or
// that answers each request to store it after 45 s.
type slowManifest struct {
	manifest []byte
	answers  bool

	mu    sync.Mutex
	first time.Time // when it first arrived
}

func (s *slowManifest) serve(rw http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodHead {
		if !s.stored() {
			rw.WriteHeader(http.StatusNotFound)
			return true
		}
		rw.Header().Set("Docker-Content-Digest", digest.FromBytes(s.manifest).String())
		rw.WriteHeader(http.StatusOK)
		return true
	}
	drain(r)
	s.arrived()
	wait := 45 * time.Second
	if !s.answers {
		wait = time.Hour
	}
	select {
	case <-r.Context().Done():
	case <-time.After(wait):
		rw.WriteHeader(http.StatusCreated)
	}
	return true
}

func (s *slowManifest) arrived() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first = time.Now()
	}
}

func (s *slowManifest) stored() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.answers && !s.first.IsZero() && time.Since(s.first) >= 30*time.Second
}

func TestU19AnswerToTheManifestTakesLong(t *testing.T) {
	type test struct {
		answers bool // where it is asked for long enough
		puts    int
	}
	cases := map[string]test{"lost after it was stored": {puts: 2}, "late": {answers: true, puts: 4}}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		s := &slowManifest{manifest: []byte(`{"schemaVersion":2}`), answers: c.answers}
		w.before(s.serve)
		require.NoError(t, w.manifest(s.manifest))
		assert.LessOrEqual(t, w.reg.Count("PUT", ""), c.puts)
	})
}

// The digest that is asked for must be that of the manifest: the tag may still name another.
func TestU19TagThatNamesAnotherManifest(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		require.NoError(t, w.manifest([]byte(`{"old":true}`)))
		w.reg.Fault("PUT", "", "503")
		require.NoError(t, w.manifest([]byte(`{"old":false}`)))
		got, _ := w.reg.Manifest(repository, "latest")
		assert.Equal(t, `{"old":false}`, string(got))
	})
}

// A registry that confirms nothing is asked for the manifest itself.
func TestU15ManifestThatIsServedIsThere(t *testing.T) {
	const old, put = `{"schemaVersion":2,"x":1}`, `{"schemaVersion":2,"x":2}`
	cases := map[string]struct {
		get    string // what is served then
		status int
		there  bool
	}{
		"it":               {put, 200, true},
		"that before":      {old, 200, false},
		"more":             {put + " ", 200, false},
		"nothing":          {"", 404, false},
		"a login page":     {"<html>", 200, false},
		"nobody is let in": {"", 403, false},
	}
	for _, script := range []string{"read+200", "read+204", "read+503->read+201"} {
		registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c struct {
			get    string
			status int
			there  bool
		}) {
			w := newWorld(t, mode, registrytest.Options{})
			w.reg.Fault("PUT", "", script)
			w.before(func(rw http.ResponseWriter, r *http.Request) bool {
				switch r.Method {
				case http.MethodHead: // without a digest
				case http.MethodGet:
					rw.WriteHeader(c.status)
					_, _ = io.WriteString(rw, c.get)
				default:
					return false
				}
				return true
			})
			err := w.manifest([]byte(put))
			puts := w.reg.Count("PUT", "")
			switch again := strings.Contains(script, "->"); {
			case c.there:
				require.NoError(t, err)
				assert.Equal(t, 1, puts)
			case again:
				require.NoError(t, err)
				assert.Equal(t, 2, puts)
			default:
				require.ErrorIs(t, err, sentinel.ErrProtocol)
			}
		})
	}
}
