package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modeltransfer/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tokenServer answers with a status and a body, and remembers the request.
func tokenServer(t *testing.T, status int, body string) (*httptest.Server, *http.Request) {
	t.Helper()
	seen := new(http.Request)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*seen = *r.Clone(t.Context())
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s, seen
}

func newTokens(c credentials) *tokens {
	return &tokens{
		client: &http.Client{CheckRedirect: checkRedirect}, insecure: true,
		find: func() (credentials, error) { return c, nil },
	}
}

func TestATokenIsAskedForAnonymously(t *testing.T) {
	s, seen := tokenServer(t, 200, `{"token":"secret"}`)
	token, err := newTokens(credentials{}).get(t.Context(), transfer.AuthChallenge{
		Realm: s.URL + "/token?account_type=x", Service: "registry", Scope: "repository:a:pull repository:b:pull,push",
	})
	require.NoError(t, err)
	assert.Equal(t, "secret", token)
	assert.Equal(t, http.MethodGet, seen.Method)
	assert.Equal(t, "/token", seen.URL.Path)
	assert.Equal(t, "registry", seen.URL.Query().Get("service"))
	assert.Equal(t, []string{"repository:a:pull", "repository:b:pull,push"}, seen.URL.Query()["scope"])
	assert.Equal(t, "x", seen.URL.Query().Get("account_type"))
	assert.Empty(t, seen.Header.Get("Authorization"))
	assert.False(t, seen.URL.Query().Has("account"))
}

func TestATokenIsAskedForWithCredentials(t *testing.T) {
	s, seen := tokenServer(t, 200, `{"access_token":"secret"}`)
	token, err := newTokens(credentials{"me", "p:w"}).get(t.Context(), transfer.AuthChallenge{Realm: s.URL})
	require.NoError(t, err)
	assert.Equal(t, "secret", token)
	name, password, ok := seen.BasicAuth()
	assert.True(t, ok)
	assert.Equal(t, []string{"me", "p:w", "me"}, []string{name, password, seen.URL.Query().Get("account")})
}

func TestRefusalsOfTheTokenServerHaveNoSecrets(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"wrong password": {401, `{"token":"leak"}`, "check the name and the password"},
		"forbidden":      {403, "leak", "check the name and the password"},
		"broken":         {500, "leak", "500"},
		"redirected":     {302, "leak", "302"},
		"not JSON":       {200, `{"token":leak`, "not JSON"},
		"no token":       {200, `{"expires_in":300}`, "no token"},
		"endless":        {200, `{"token":"` + strings.Repeat("leak", maxTokenBody), "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := tokenServer(t, test.status, test.body)
			_, err := newTokens(credentials{"me", "hunter2"}).get(t.Context(), transfer.AuthChallenge{Realm: s.URL})
			require.ErrorIs(t, err, errTokenServer)
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), "leak")
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestRealmsThatAreNotSafeAreRefused(t *testing.T) {
	for _, realm := range []string{"http://registry.example/token", "ftp://x/token", "/token", "https:///token", "https://%zz", "token"} {
		secure := &tokens{find: func() (credentials, error) { return credentials{"me", "pw"}, nil }}
		_, err := secure.get(t.Context(), transfer.AuthChallenge{Realm: realm})
		assert.ErrorIs(t, err, errRealm, realm)
	}
	_, err := newTokens(credentials{}).get(t.Context(), transfer.AuthChallenge{})
	assert.ErrorIs(t, err, errNoBearer)
}

func TestChallengesAreParsed(t *testing.T) {
	want := transfer.AuthChallenge{Realm: "https://auth.example/token", Service: "reg", Scope: "repository:a:pull,push"}
	for _, header := range []string{
		`Bearer realm="https://auth.example/token",service="reg",scope="repository:a:pull,push"`,
		`bearer  scope="repository:a:pull,push" , Service=reg, REALM="https://auth.example/token", error="invalid_token"`,
		`Basic realm="x", Bearer realm="https://auth.example/token",service="reg",scope="repository:a:pull,push"`,
		`Bearer realm="https://auth.example\/token",service="reg",scope="repository:a:pull,push", Basic realm="x"`,
	} {
		assert.Equal(t, want, parseChallenge(header), header)
	}
	for _, header := range []string{"", "Bearer", "Bearer ", `Basic realm="https://auth.example"`, `Bearerrealm="x"`} {
		assert.Equal(t, transfer.AuthChallenge{}, parseChallenge(header), header)
	}
}

func TestCredentialsOfTheCommandLineComeFirst(t *testing.T) {
	a := &app{getenv: env(map[string]string{passwordVariable: "pw", "HOME": "/nonexistent"})}
	c, err := a.credentialsFor("registry.example", "me")
	require.NoError(t, err)
	assert.Equal(t, credentials{"me", "pw"}, c)
}

func TestCredentialsAreFoundInTheDockerConfiguration(t *testing.T) {
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, ".docker"), 0o700))
	auth := base64.StdEncoding.EncodeToString([]byte("me:p:w"))
	config := fmt.Sprintf(`{"auths":{"registry.example:5000":{"auth":%q},"https://other.example/v2/":{"auth":%q},
		"helped.example":{},"bad.example":{"auth":"!!"}},"credsStore":"desktop"}`, auth, auth)
	path := filepath.Join(home, ".docker", "config.json")
	require.NoError(t, os.WriteFile(path, []byte(config), 0o600))
	a := &app{getenv: env(map[string]string{"HOME": home})}
	for host, want := range map[string]credentials{
		"registry.example:5000": {"me", "p:w"}, "other.example": {"me", "p:w"},
		"registry.example": {}, "helped.example": {}, "unknown.example": {},
	} {
		c, err := a.credentialsFor(host, "")
		require.NoError(t, err, host)
		assert.Equal(t, want, c, host)
	}
	_, err := a.credentialsFor("bad.example", "")
	require.ErrorIs(t, err, errCredentials)

	require.NoError(t, os.WriteFile(path, []byte(`{"auths":secret`), 0o600))
	_, err = a.credentialsFor("registry.example", "")
	require.ErrorIs(t, err, errCredentials)
	assert.NotContains(t, err.Error(), "secret")
}

func TestWithoutAHomeAccessIsAnonymous(t *testing.T) {
	for _, vars := range []map[string]string{nil, {"HOME": t.TempDir()}, {"DOCKER_CONFIG": t.TempDir()}} {
		a := &app{getenv: env(vars)}
		c, err := a.credentialsFor("registry.example", "")
		require.NoError(t, err)
		assert.Equal(t, credentials{}, c)
	}
}
