package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// leeway is how long distribution accepts a token after it has expired.
const leeway = 60 * time.Second

// tokenServer hands out bearer tokens as JWTs, signed with ES256.
type tokenServer struct {
	*server
	service, issuer string
	keyFile         string // the public key as a JWKS, for the registry
	user, password  string // who gets a token; empty means anybody
	key             *ecdsa.PrivateKey

	mu       sync.Mutex // guards the fields that follow
	ttl      time.Duration
	ttlOnce  []time.Duration // of the first tokens
	withhold map[string]bool // actions that are not granted to anyone
	issued   []string
}

const keyID = "e2e"

func newTokenServer(t testing.TB) *tokenServer {
	t.Helper()
	ts := &tokenServer{
		service: "e2e-registry", issuer: "e2e-issuer", ttl: 5 * time.Minute,
		keyFile: filepath.Join(t.TempDir(), "jwks.json"), withhold: map[string]bool{},
	}
	var err error
	ts.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(ts.keyFile, ts.jwks(t), 0o600))
	ts.server = serve(t, ts, false)
	// go-containerregistry trusts no realm at an address.
	ts.url = strings.Replace(ts.url, "127.0.0.1", "localhost", 1)
	return ts
}

func (ts *tokenServer) realm() string { return ts.url + "/token" }

// jwks returns the public key (RFC 7517, RFC 7518 section 6.2.1).
func (ts *tokenServer) jwks(t testing.TB) []byte {
	t.Helper()
	point, err := ts.key.PublicKey.Bytes() // 0x04, x, y
	require.NoError(t, err)
	b, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": keyID,
		"x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	require.NoError(t, err)
	return b
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// access is what a token allows, in the words of distribution.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (ts *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if r.URL.Path != "/token" || query.Get("service") != ts.service {
		http.Error(w, "no such service", http.StatusNotFound)
		return
	}
	if u, p, _ := r.BasicAuth(); u != ts.user || p != ts.password {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	ts.mu.Lock()
	ttl := ts.ttl
	if len(ts.ttlOnce) > 0 {
		ttl, ts.ttlOnce = ts.ttlOnce[0], ts.ttlOnce[1:]
	}
	ts.mu.Unlock()
	token, err := ts.issue(ttl, strings.Fields(strings.Join(query["scope"], " "))...)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": token, "access_token": token, "expires_in": int(ttl.Seconds()),
	})
}

// issue makes a token for scopes such as "repository:library/model:pull,push". It
// has expired already where ttl is negative.
func (ts *tokenServer) issue(ttl time.Duration, scopes ...string) (string, error) {
	now := time.Now()
	begin := min(0, ttl) - time.Minute
	claims, err := json.Marshal(map[string]any{
		"iss": ts.issuer, "sub": "e2e", "aud": ts.service, "jti": rand.Text(),
		"iat": now.Add(begin).Unix(), "nbf": now.Add(begin).Unix(), "exp": now.Add(ttl).Unix(),
		"access": ts.grant(scopes),
	})
	if err != nil {
		return "", err
	}
	header, err := json.Marshal(map[string]string{"typ": "JWT", "alg": "ES256", "kid": keyID})
	if err != nil {
		return "", err
	}
	token, err := ts.sign(encode(header) + "." + encode(claims))
	if err != nil {
		return "", err
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.issued = append(ts.issued, token)
	return token, nil
}

// sign appends the signature (RFC 7518 section 3.4: r and s, each of 32 bytes).
func (ts *tokenServer) sign(content string) (string, error) {
	sum := sha256.Sum256([]byte(content))
	r, s, err := ecdsa.Sign(rand.Reader, ts.key, sum[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return content + "." + encode(signature[:]), nil
}

// grant allows what is asked for, as far as it is not withheld.
func (ts *tokenServer) grant(scopes []string) []access {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	granted := []access{}
	for _, scope := range scopes {
		kind, rest, _ := strings.Cut(scope, ":")
		i := strings.LastIndex(rest, ":")
		if i < 0 {
			continue
		}
		withheld := func(action string) bool { return ts.withhold[action] }
		actions := slices.DeleteFunc(strings.Split(rest[i+1:], ","), withheld)
		granted = append(granted, access{Type: kind, Name: rest[:i], Actions: actions})
	}
	return granted
}

// tokens returns all tokens that were ever handed out.
func (ts *tokenServer) tokens() []string {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return slices.Clone(ts.issued)
}
