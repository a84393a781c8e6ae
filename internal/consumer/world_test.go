package consumer_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

const (
	repository = "me/model"

	// latency passes before each answer.
	latency = 10 * time.Millisecond

	tokenPrefix = "token-"
)

// world is a registry and a program that uses it.
type world struct {
	program
	t       *testing.T
	net     *registrytest.Network
	reg     *registrytest.Registry
	tokens  *tokens
	meter   *meter
	content map[string][]byte // of the blobs, by digest
}

// newWorld serves a registry under that name.
func newWorld(t *testing.T, name string, mode registrytest.Mode, opts registrytest.Options) *world {
	t.Helper()
	w := &world{
		t: t, net: registrytest.NewNetwork(t), reg: registrytest.New(opts),
		tokens:  &tokens{uses: map[string]int{}},
		content: map[string][]byte{},
	}
	w.meter = &meter{next: w.reg}
	mux := http.NewServeMux()
	mux.Handle("/", w.meter)
	mux.Handle("/token", w.tokens)
	server, err := url.Parse(w.net.Serve(name, mux, mode).URL)
	require.NoError(t, err)
	transport := w.net.Transport()
	transport.ExpectContinueTimeout = time.Second // as in http.DefaultTransport
	w.program = program{
		blobs: t.TempDir(), base: *server, client: &http.Client{Transport: transport}, streams: 4,
	}
	return w
}

// guard has the registry let in only those who have a token, each for so many requests, 0 for ever.
func (w *world) guard(life int) {
	w.tokens.life = life
	w.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	w.reg.Configure(func(o *registrytest.Options) { o.CheckToken = w.tokens.check })
}

// make returns a layer that nobody has.
func (w *world) make(size int) layer {
	c := registrytest.ContentOf(size, uint64(len(w.content)))
	w.content[c.Digest.String()] = c.Data
	w.reg.Expect(c.Digest, c.Data)
	return layer{Digest: c.Digest.String(), Size: int64(size)}
}

// local returns a layer that the program has.
func (w *world) local(size int) layer {
	l := w.make(size)
	require.NoError(w.t, os.WriteFile(w.path(l), w.content[l.Digest], 0o644))
	return l
}

// remote returns a layer that the registry has.
func (w *world) remote(size int) layer {
	l := w.make(size)
	w.stored(repository, l)
	return l
}

// stored has the registry have a layer.
func (w *world) stored(repository string, l layer) {
	w.reg.Replace(repository, digest.Digest(l.Digest), w.content[l.Digest])
}

func (w *world) path(l layer) string {
	return filepath.Join(w.blobs, strings.Replace(l.Digest, ":", "-", 1))
}

// requirePulled checks that the program has these layers.
func (w *world) requirePulled(layers ...layer) {
	w.t.Helper()
	for _, l := range layers {
		data, err := os.ReadFile(w.path(l))
		require.NoError(w.t, err)
		require.True(w.t, bytes.Equal(w.content[l.Digest], data), l.Digest)
	}
}

// requirePushed checks that the registry has these layers in the repository.
func (w *world) requirePushed(layers ...layer) {
	w.t.Helper()
	for _, l := range layers {
		require.True(w.t, w.reg.Has(repository, digest.Digest(l.Digest)), l.Digest)
		data, _ := w.reg.Blob(digest.Digest(l.Digest))
		require.True(w.t, bytes.Equal(w.content[l.Digest], data), l.Digest)
	}
}

// manifestOf returns the manifest of a model.
func manifestOf(t *testing.T, layers ...layer) []byte {
	t.Helper()
	type descriptor struct {
		MediaType, Digest string
		Size              int64
	}
	m := struct {
		SchemaVersion int
		MediaType     string
		Config        descriptor
		Layers        []descriptor
	}{SchemaVersion: 2, MediaType: "application/vnd.docker.distribution.manifest.v2+json"}
	for _, l := range layers {
		m.Layers = append(m.Layers, descriptor{"application/vnd.ollama.image.tensor", l.Digest, l.Size})
	}
	if len(layers) > 0 {
		m.Config = m.Layers[0]
	}
	data, err := json.Marshal(m)
	require.NoError(t, err)
	return data
}

// meter counts how many requests a registry is answering. All its answers take as long, so that in faked time
// none is counted while another ends.
type meter struct {
	next http.Handler

	mu        sync.Mutex
	now, most int
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.count(1)
	defer m.count(-1)
	time.Sleep(latency / 2)
	m.count(0)
	time.Sleep(latency / 2)
	m.next.ServeHTTP(w, r)
}

// count adds n and, where that is 0, notes how many there are.
func (m *meter) count(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now += n; n == 0 {
		m.most = max(m.most, m.now)
	}
}

// tokens is a token server. It wants each request to be signed.
type tokens struct {
	life int // how many requests a token is good for, 0: for ever

	mu     sync.Mutex
	uses   map[string]int // by token
	scopes []string       // that were asked for
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !signed(r.Header.Get("Authorization"), r.URL.RequestURI()) {
		http.Error(w, `{"error":"unauthorized: unknown key"}`, http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	token := tokenPrefix + strconv.Itoa(len(s.scopes)+1)
	s.uses[token] = 0
	s.scopes = append(s.scopes, strings.Join(r.URL.Query()["scope"], " "))
	s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

// check tells whether a request has a token that is alive.
func (s *tokens) check(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	uses, known := s.uses[token]
	if !known || s.life > 0 && uses >= s.life {
		return false
	}
	s.uses[token]++
	return true
}

// issued is how many tokens were asked for.
func (s *tokens) issued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.scopes)
}

// bookkeeper keeps what it was told.
type bookkeeper struct{ told []status }

func (b *bookkeeper) tell(s status) { b.told = append(b.told, s) }

// requireAll checks that the first and the last that was told are these.
func (b *bookkeeper) requireFromTo(t *testing.T, first, total int64) {
	t.Helper()
	require.NotEmpty(t, b.told)
	assert.Equal(t, status{first, total}, b.told[0])
	assert.Equal(t, status{total, total}, b.told[len(b.told)-1])
}
