package registry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

const (
	repository = "library/model"
	service    = "registry.test"
	username   = "ada"
	password   = "correct-horse-battery"
	identity   = "identity-token-1815"

	// noBackoff is less than the shortest wait between two attempts.
	noBackoff = 50 * time.Millisecond
)

// world is a registry, its token server, and a network for one test.
type world struct {
	t      *testing.T
	mode   registrytest.Mode
	net    *registrytest.Network
	reg    *registrytest.Registry
	url    string // of the registry
	tokens *tokenServer
	realm  string // of the token server
}

// newWorld serves a registry that lets everybody in.
func newWorld(t *testing.T, mode registrytest.Mode) *world {
	t.Helper()
	w := &world{t: t, mode: mode, net: registrytest.NewNetwork(t)}
	w.reg = registrytest.New(registrytest.Options{})
	w.url = w.net.Serve("registry.test", w.reg, mode).URL
	w.tokens = newTokenServer()
	w.realm = w.net.Serve("auth.test", w.tokens, mode).URL + "/token"
	return w
}

// protect makes the registry want a token of its token server that is good for what is asked.
func (w *world) protect() *world {
	w.reg.Configure(func(o *registrytest.Options) {
		o.Challenge = fmt.Sprintf(`Bearer realm="%s",service="%s",scope="%s"`, w.realm, service, pullScope)
		o.CheckToken = func(r *http.Request) bool {
			action := "pull"
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				action = "push"
			}
			return w.tokens.allows(r.Header.Get("Authorization"), repository, action)
		}
	})
	return w
}

// basicOnly makes the registry want a user and a password itself.
func (w *world) basicOnly() *world {
	w.reg.Configure(func(o *registrytest.Options) {
		o.Challenge = `Basic realm="registry.test"`
		o.CheckToken = func(r *http.Request) bool {
			u, p, ok := r.BasicAuth()
			return ok && u == username && p == password
		}
	})
	return w
}

// open opens the repository.
func (w *world) open(change ...func(*registry.Options)) *registry.Repository {
	w.t.Helper()
	opts := registry.Options{BaseURL: w.url, Repository: repository, Client: w.net.Client()}
	for _, c := range change {
		c(&opts)
	}
	repo, err := registry.Open(opts)
	require.NoError(w.t, err)
	return repo
}

// person opens the repository with user and password.
func person(o *registry.Options) {
	o.Credentials = registry.Credentials{Username: username, Password: password}
}

// withIdentity opens the repository with an identity token.
func withIdentity(o *registry.Options) { o.Credentials = registry.Credentials{IdentityToken: identity} }

// logTo opens the repository with a log of everything.
func logTo(w io.Writer) func(*registry.Options) {
	return func(o *registry.Options) {
		o.Logger = slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

// push opens the repository for pushing.
func push(o *registry.Options) { o.Push = true }

// put stores a manifest of blobs with these contents under a tag.
func (w *world) put(tag string, layers ...string) registry.Manifest {
	w.t.Helper()
	data := manifestOf(w.t, func(b string) { w.reg.Put(repository, []byte(b)) }, layers...)
	w.reg.PutManifest(repository, tag, registry.MediaTypeManifest, data)
	return registry.NewManifest(data, registry.MediaTypeManifest)
}

// manifestOf makes a manifest of an empty config and layers, each called layer-<number>, and stores all
// of these.
func manifestOf(t *testing.T, store func(string), layers ...string) []byte {
	t.Helper()
	store("{}")
	m := map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeManifest,
		"config": descriptor("{}", "application/vnd.oci.empty.v1+json", ""),
	}
	var list []any
	for i, layer := range layers {
		store(layer)
		list = append(list, descriptor(layer, "application/octet-stream", fmt.Sprintf("layer-%d", i)))
	}
	m["layers"] = list
	data, err := json.Marshal(m)
	require.NoError(t, err)
	return data
}

func descriptor(content, mediaType, title string) map[string]any {
	return map[string]any{
		"mediaType": mediaType, "digest": digest.FromString(content), "size": len(content),
		"annotations": map[string]string{"org.opencontainers.image.title": title},
	}
}

// secretFree fails when an error quotes a secret.
func (w *world) secretFree(text string) {
	w.t.Helper()
	for _, secret := range append(w.tokens.issued(), password, identity) {
		assert.NotContains(w.t, text, secret)
	}
}

// requireStatus fails when the error is not that of an answer with the status.
func requireStatus(t *testing.T, err error, code int) {
	t.Helper()
	var status *transfer.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, code, status.StatusCode)
}

// asked is a request that a token server understood.
type asked struct {
	method  string
	who     string // "", "user:password", or "refresh:token"
	service string
	scopes  []string
}

// tokenServer gives tokens as the distribution project specifies. It records what it is asked.
type tokenServer struct {
	front *registrytest.Registry // for its faults

	mu      sync.Mutex // guards the fields that follow
	deny    string     // scopes for this repository are refused as a whole
	anyUser bool       // every password is good
	raw     *string    // the answer, whatever was asked
	narrow  bool       // tokens are for pulling only, whatever is asked
	answer  func(token string) any
	tokens  map[string][]string // scopes of each
	order   []string
	log     []asked
	refresh string // the identity token that is good
}

func newTokenServer() *tokenServer {
	s := &tokenServer{tokens: map[string][]string{}, refresh: identity}
	serve := func(w http.ResponseWriter, r *http.Request) bool {
		s.serve(w, r)
		return true
	}
	s.front = registrytest.New(registrytest.Options{Before: serve})
	return s
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.front.ServeHTTP(w, r) }

func (s *tokenServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := asked{method: r.Method, service: r.FormValue("service")}
	if u, p, ok := r.BasicAuth(); ok {
		a.who = u + ":" + p
	}
	switch r.FormValue("grant_type") {
	case "refresh_token":
		a.who = "refresh:" + r.FormValue("refresh_token")
	case "password":
		a.who = r.FormValue("username") + ":" + r.FormValue("password")
	}
	for _, value := range r.Form["scope"] {
		a.scopes = append(a.scopes, strings.Fields(value)...)
	}
	s.log = append(s.log, a)
	denied := s.deny != "" && strings.Contains(strings.Join(a.scopes, " "), s.deny)
	switch {
	case s.raw != nil:
		_, _ = io.WriteString(w, *s.raw)
		return
	case a.who != "" && !s.anyUser && a.who != username+":"+password && a.who != "refresh:"+s.refresh:
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"not `+a.who+`"}]}`,
			http.StatusUnauthorized)
		return
	case denied:
		http.Error(w, `{"errors":[{"code":"DENIED","message":"not yours"}]}`, http.StatusForbidden)
		return
	}
	token := fmt.Sprintf("token-%d-of-auth.test", len(s.order)+1)
	s.tokens[token], s.order = a.scopes, append(s.order, token)
	var answer any = map[string]any{"token": token, "expires_in": 300}
	if s.answer != nil {
		answer = s.answer(token)
	}
	data, _ := json.Marshal(answer)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

// allows tells whether a header has a token for that action.
func (s *tokenServer) allows(header, repo, action string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, _ := strings.CutPrefix(header, "Bearer ")
	for _, scope := range s.tokens[token] {
		actions, ok := strings.CutPrefix(scope, "repository:"+repo+":")
		if ok && slices.Contains(strings.Split(actions, ","), action) && !(s.narrow && action == "push") {
			return true
		}
	}
	return false
}

// knows tells whether a header has a token.
func (s *tokenServer) knows(header string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, _ := strings.CutPrefix(header, "Bearer ")
	_, ok := s.tokens[token]
	return ok
}

// asked returns what it was asked.
func (s *tokenServer) asked() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// issued returns the tokens it gave.
func (s *tokenServer) issued() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

// forget makes all tokens so far bad.
func (s *tokenServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// configure changes how it answers.
func (s *tokenServer) configure(change func(*tokenServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}
