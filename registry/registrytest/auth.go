package registrytest

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// guard returns options of a registry that lets in whom these let in.
func guard(opts Options) registrytest.Options {
	allowed := func(r *http.Request) bool {
		username, password, _ := r.BasicAuth()
		return opts.Username == "" || username == opts.Username && password == opts.Password
	}
	if !opts.Tokens {
		return registrytest.Options{Access: registrytest.Access{
			CheckToken: allowed, Challenge: `Basic realm="registry"`,
		}}
	}
	tokens := &tokens{allowed: allowed, scopes: map[string][]string{}}
	return registrytest.Options{Before: tokens.serve, Access: registrytest.Access{CheckToken: tokens.check}}
}

// tokens is a token server that keeps what it has given.
type tokens struct {
	allowed func(*http.Request) bool

	mu     sync.Mutex // guards the field that follows
	scopes map[string][]string
}

// serve gives a token where one is asked for, and tells whether that was so.
func (t *tokens) serve(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != "/token" {
		return false
	}
	if r.Method != http.MethodGet || !t.allowed(r) {
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	token := rand.Text()
	t.mu.Lock()
	t.scopes[token] = scopesOf(r)
	t.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
	return true
}

// scopesOf returns the scopes that a request for a token asks for. They come one by one, or in one list.
func scopesOf(r *http.Request) (scopes []string) {
	for _, list := range r.URL.Query()["scope"] {
		scopes = append(scopes, strings.Fields(list)...)
	}
	return scopes
}

// check tells whether the token of a request was given for what it does.
func (t *tokens) check(r *http.Request) bool {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	t.mu.Lock()
	scopes, given := t.scopes[token]
	t.mu.Unlock()
	if rest := strings.TrimPrefix(r.URL.Path, "/v2"); rest == "" || rest == "/" {
		return given
	}
	return slices.ContainsFunc(scopes, func(scope string) bool { return covers(scope, r) })
}

// target finds the repository in a path.
var target = regexp.MustCompile(`^/v2/(.+)/(?:blobs|manifests|tags|referrers)/`)

// covers tells whether a scope, as "repository:library/model:pull,push", is enough for a request.
func covers(scope string, r *http.Request) bool {
	if r.URL.Path == "/v2/_catalog" {
		return scope == "registry:catalog:*"
	}
	named := target.FindStringSubmatch(r.URL.Path)
	actions, ok := "", false
	if named != nil {
		actions, ok = strings.CutPrefix(scope, "repository:"+named[1]+":")
	}
	action := "push"
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		action = "pull"
	}
	return ok && slices.Contains(strings.Split(actions, ","), action)
}
