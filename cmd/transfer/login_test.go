package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// basicGuard puts Basic authentication in front of a registry, for the user me with the password hunter2.
func basicGuard(t *testing.T, s *server) string {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name == "me" && password == "hunter2" {
			s.http.Handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="me"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// keepers are the places that may keep a log-in: the variables that lead there, and whether it has one.
var keepers = map[string]func(*testing.T) (vars map[string]string, kept func() bool){
	"HOME": func(t *testing.T) (map[string]string, func() bool) {
		home := t.TempDir()
		return map[string]string{"HOME": home}, keptIn(filepath.Join(home, ".docker", "config.json"))
	},
	"DOCKER_CONFIG": func(t *testing.T) (map[string]string, func() bool) {
		dir := t.TempDir()
		return map[string]string{"DOCKER_CONFIG": dir, "HOME": t.TempDir()},
			keptIn(filepath.Join(dir, "config.json"))
	},
	"credsStore": func(t *testing.T) (map[string]string, func() bool) {
		dir, bin := t.TempDir(), t.TempDir()
		file := filepath.Join(dir, "kept")
		script := `#!/bin/sh
case $1 in
store) cat > ` + file + ` ;;
get) cat ` + file + ` 2> /dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm ` + file + ` ;;
esac
`
		config := filepath.Join(dir, "config.json")
		require.NoError(t, os.WriteFile(config, []byte(`{"credsStore":"fake"}`), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(bin, "docker-credential-fake"), []byte(script), 0o700))
		t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
		return map[string]string{"DOCKER_CONFIG": dir}, func() bool {
			assert.False(t, keptIn(config)(), "the store has it alone")
			data, _ := os.ReadFile(file)
			return strings.Contains(string(data), `"Secret":"hunter2"`)
		}
	},
}

// keptIn tells whether a configuration file has the log-in.
func keptIn(config string) func() bool {
	return func() bool {
		data, _ := os.ReadFile(config)
		return strings.Contains(string(data), "bWU6aHVudGVyMg==") // me:hunter2
	}
}

// From the first log-in to the last log-out, as a user goes through it.
func TestALogInLetsPullAndPushUntilTheLogOut(t *testing.T) {
	fronts := map[string]func(*testing.T, *server) string{"token": guard, "basic": basicGuard}
	for name, keeper := range keepers {
		for auth, front := range fronts {
			t.Run(name+", "+auth, func(t *testing.T) {
				vars, kept := keeper(t)
				u := &user{t: t, vars: env(vars), url: front(t, startedServer(t)), made: tree(t, someFiles)}
				u.isLockedOut()
				u.logsIn("wrong", exitFailed, "hint: check the name and the password")
				assert.False(t, kept())
				u.isLockedOut()

				u.logsIn("hunter2", exitOK, "logged in to "+u.host()+" as me; the password is kept in ")
				assert.True(t, kept())
				u.moves()
				u.logsIn("wrong", exitFailed, "hint: check the name and the password")
				assert.True(t, kept(), "what is refused does not replace what is kept")
				u.logsIn("hunter2", exitOK, "logged in to ")
				u.moves()

				u.runs(exitOK, "forgot the credentials for "+u.host()+" that were in ", "logout", u.host())
				assert.False(t, kept())
				u.isLockedOut()
				u.runs(exitFailed, u.host()+": no credentials are kept for it", "logout", u.host())
			})
		}
	}
}

// user is somebody at a registry that is guarded.
type user struct {
	t         *testing.T
	vars      func(string) string
	url, made string
}

func (u *user) host() string { return strings.TrimPrefix(u.url, "http://") }

// runs runs a command that ends so and says so.
func (u *user) runs(code int, says string, args ...string) {
	u.t.Helper()
	u.types("", code, says, args...)
}

func (u *user) types(keys string, code int, says string, args ...string) {
	u.t.Helper()
	var out lockedBuffer
	a := &app{stdin: strings.NewReader(keys), stdout: &out, stderr: &out, getenv: u.vars}
	require.Equal(u.t, code, a.run(u.t.Context(), args), "%v: %s", args, &out)
	assert.Contains(u.t, out.String(), says)
}

func (u *user) logsIn(password string, code int, says string) {
	u.t.Helper()
	u.types(password+"\n", code, says, "login", "--username", "me", "--password-stdin", u.host())
}

func (u *user) isLockedOut() {
	u.t.Helper()
	hint := "hint: log in with: transfer login " + u.host() + "\n"
	u.runs(exitFailed, hint, "push", u.made, u.url+"/me/model:v1")
	u.runs(exitFailed, hint, "pull", u.url+"/me/model:v1", u.t.TempDir())
	u.runs(exitFailed, hint, "tags", u.url+"/me/model")
}

func (u *user) moves() {
	u.t.Helper()
	pulled := u.t.TempDir()
	u.runs(exitOK, "pushed ", "push", u.made, u.url+"/me/model:v1")
	u.runs(exitOK, "pulled ", "pull", u.url+"/me/model:v1", pulled)
	assert.Equal(u.t, someFiles, filesOf(u.t, pulled))
}

// Where nobody is asked who he is, any password would seem right.
func TestALogInThatNobodyChecksIsSaid(t *testing.T) {
	s := startedServer(t)
	vars := env(map[string]string{passwordVariable: "pw", "HOME": t.TempDir()})
	r := runIn(t.Context(), vars, "login", "--username", "me", s.url)
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Contains(t, r.stderr, "asks nobody to log in, so it has not checked the name and the password")
	r = runIn(t.Context(), env(map[string]string{passwordVariable: "hunter2", "HOME": t.TempDir()}),
		"login", "--username", "me", guard(t, s))
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Empty(t, r.stderr)
}

// A password that never comes ends with the command, and not with a second Ctrl-C.
func TestALogInThatWaitsForStdinCanBeInterrupted(t *testing.T) {
	pipe, w := io.Pipe()
	defer w.Close()
	var stdout, stderr lockedBuffer
	a := &app{stdin: pipe, stdout: &stdout, stderr: &stderr, getenv: noEnv}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code := a.run(ctx, []string{"login", "--username", "me", "--password-stdin", "registry.example"})
	assert.Equal(t, exitInterrupted, code, stderr.String())
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
	assert.Contains(t, r.stderr, "transfer: docker.io: no credentials are kept for it\n")
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
