package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestALogInIsCheckedAndKept(t *testing.T) {
	s := startedServer(t)
	basic := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password == "hunter2" {
			s.http.Handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="me"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer basic.Close()
	for name, url := range map[string]string{"token": guard(t, s), "basic": basic.URL} {
		t.Run(name, func(t *testing.T) {
			host, home := strings.TrimPrefix(url, "http://"), t.TempDir()
			login := func(password string) result {
				var stdout, stderr lockedBuffer
				a := &app{
					stdin: strings.NewReader(password + "\n"), stdout: &stdout, stderr: &stderr,
					getenv: env(map[string]string{"HOME": home}),
				}
				code := a.run(t.Context(), []string{"login", "--username", "me", "--password-stdin", host})
				return result{code, stdout.String(), stderr.String()}
			}
			r := login("wrong")
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stderr, "hint: check the name and the password")
			assert.NoFileExists(t, filepath.Join(home, ".docker", "config.json"))

			r = login("hunter2")
			require.Equal(t, exitOK, r.code, r.stderr)
			assert.Contains(t, r.stdout, "logged in to "+host+" as me")
			r = runIn(t.Context(), env(map[string]string{"HOME": home}), "tags", url+"/me/model")
			assert.Contains(t, r.stderr, "404", "a log-in that works leads to what is not there")

			r = runIn(t.Context(), env(map[string]string{"HOME": home}), "logout", host)
			require.Equal(t, exitOK, r.code, r.stderr)
			r = runIn(t.Context(), env(map[string]string{"HOME": home}), "tags", url+"/me/model")
			assert.Contains(t, r.stderr, "hint: log in with: transfer login "+host)
			r = runIn(t.Context(), env(map[string]string{"HOME": home}), "logout", host)
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stderr, "no credentials are kept")
		})
	}
}

// podman's file is podman's to edit.
func TestALogOutTellsWhatPodmanKeeps(t *testing.T) {
	home := t.TempDir()
	auth := filepath.Join(home, "run", "containers", "auth.json")
	vars := env(map[string]string{"HOME": home, "XDG_RUNTIME_DIR": filepath.Join(home, "run")})
	const login = `{"auth":"bWU6cHc="}`
	write := func(path, content string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	kept := `{"auths":{"registry.example":` + login + `,"registry.example/me":` + login +
		`,"docker.io":` + login + `,"registry.example.org":` + login + `}}`
	write(auth, kept)
	write(filepath.Join(home, ".docker", "config.json"), `{"auths":{"registry.example":`+login+`}}`)
	command := "remove it with: podman logout --authfile " + auth + " "

	r := runIn(t.Context(), vars, "logout", "registry.example")
	assert.Equal(t, exitOK, r.code)
	assert.Contains(t, r.stdout, "forgot the credentials for registry.example")
	assert.Equal(t, 2, strings.Count(r.stderr, "podman keeps a log-in"), r.stderr)
	assert.Contains(t, r.stderr, command+"registry.example\n")
	assert.Contains(t, r.stderr, command+"registry.example/me\n")

	r = runIn(t.Context(), vars, "logout", "docker.io")
	assert.Equal(t, exitFailed, r.code, "nothing of its own")
	assert.Contains(t, r.stderr, command+"docker.io\n")
	data, err := os.ReadFile(auth)
	require.NoError(t, err)
	assert.Equal(t, kept, string(data))

	write(auth, "{")
	r = runIn(t.Context(), vars, "logout", "registry.example")
	assert.Contains(t, r.stderr, "auth.json cannot be read")
}

func TestALogInThatCannotBeAskedForIsAUsageError(t *testing.T) {
	for _, args := range [][]string{
		{"login", "registry.example"},
		{"login", "--password-stdin", "registry.example"},
		{"login", "--username", "me", "--password-stdin", "registry.example"},
		{"login", "a b"},
		{"logout", "x/y"},
	} {
		assert.Equal(t, exitUsage, runWith(t, args...).code, "%v", args)
	}
}

func TestWhatIsNoRegistryIsNamedSoAtLogin(t *testing.T) {
	front := httptest.NewServer(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }),
	)
	defer front.Close()
	environ := env(map[string]string{passwordVariable: "pw", "HOME": t.TempDir()})
	r := runIn(t.Context(), environ, "login", "--username", "me", front.URL)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "does not answer as a registry does")
}
