package logins_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/logins"
	"github.com/modeltransfer/transfer/registry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

// docker returns the files of a home whose Docker configuration has this content.
func docker(t *testing.T, content string) logins.Files {
	t.Helper()
	home := t.TempDir()
	write(t, filepath.Join(home, ".docker", "config.json"), content)
	return logins.Find(env(map[string]string{"HOME": home}))
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestCredentialsAreFoundInTheDockerConfiguration(t *testing.T) {
	f := docker(t, fmt.Sprintf(`{"auths":{
		"registry.example:5000":{"auth":%[1]q}, "https://other.example/v2/":{"auth":%[1]q},
		"plain.example":{"username":"me","password":"p:w"}, "token.example":{"auth":%[2]q,"identitytoken":"it"},
		"https://index.docker.io/v1/":{"auth":%[1]q}, "padded.example":{"auth":%[3]q}}}`,
		encoded("me:p:w"), encoded("<token>:"), encoded("me:p:w\x00")))
	mine := registry.Credentials{Username: "me", Password: "p:w"}
	for host, want := range map[string]registry.Credentials{
		"registry.example:5000": mine, "other.example": mine, "plain.example": mine, "padded.example": mine,
		"registry-1.docker.io": mine, "registry.example": {}, "unknown.example": {},
		"token.example": {Username: "<token>", IdentityToken: "it"},
	} {
		c, err := f.Get(t.Context(), host, "me/model")
		require.NoError(t, err, host)
		assert.Equal(t, want, c, host)
	}
}

func TestCredentialsAreFoundWherePodmanKeepsThem(t *testing.T) {
	entry := func(name string) string {
		return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, name, encoded("me:pw"))
	}
	home, run := t.TempDir(), t.TempDir()
	write(t, filepath.Join(run, "containers", "auth.json"), entry("run.example"))
	write(t, filepath.Join(home, ".config", "containers", "auth.json"), entry("home.example/team"))
	f := logins.Find(env(map[string]string{"HOME": home, "XDG_RUNTIME_DIR": run}))
	mine := registry.Credentials{Username: "me", Password: "pw"}
	for _, test := range []struct {
		host, repository string
		want             registry.Credentials
	}{
		{"run.example", "me/model", mine}, {"home.example", "team/model", mine},
		{"home.example", "other/model", registry.Credentials{}},
	} {
		c, err := f.Get(t.Context(), test.host, test.repository)
		require.NoError(t, err)
		assert.Equal(t, test.want, c, test.host)
	}
}

func TestWithoutAHomeAccessIsAnonymous(t *testing.T) {
	for _, vars := range []map[string]string{nil, {"HOME": t.TempDir()}, {"DOCKER_CONFIG": t.TempDir()}} {
		c, err := logins.Find(env(vars)).Get(t.Context(), "registry.example", "me/model")
		require.NoError(t, err)
		assert.Equal(t, registry.Credentials{}, c)
	}
}

func TestCredentialsThatCannotBeReadAreNamedWithoutTheirSecret(t *testing.T) {
	const malformed, helper = "malformed entry of registry.example", "docker-credential-none-such"
	for name, test := range map[string]struct{ config, want string }{
		"not JSON":          {`{"auths":secret`, "is not a Docker configuration"},
		"not base64":        {`{"auths":{"registry.example":{"auth":"secret!!"}}}`, malformed},
		"without a colon":   {`{"auths":{"registry.example":{"auth":"` + encoded("secret") + `"}}}`, malformed},
		"of another type":   {`{"auths":{"registry.example":"secret"}}`, malformed},
		"a registry token":  {`{"auths":{"registry.example":{"registrytoken":"secret"}}}`, "is a registrytoken"},
		"a missing helper":  {`{"auths":{"registry.example":{}},"credsStore":"none-such"}`, helper},
		"the host's helper": {`{"credHelpers":{"registry.example":"none-such"}}`, helper},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := docker(t, test.config).Get(t.Context(), "registry.example", "me/model")
			require.ErrorIs(t, err, logins.ErrUnreadable)
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), "secret")
			assert.NotContains(t, err.Error(), encoded("secret"))
		})
	}
}

func TestAStoreThatIsNotInstalledDoesNotKeepAnyoneFromAnonymousAccess(t *testing.T) {
	f := docker(t, `{"auths":{"other.example":{}},"credsStore":"none-such"}`)
	var warned string
	f.Warn = func(message string) { warned = message }
	c, err := f.Get(t.Context(), "registry.example", "me/model")
	require.NoError(t, err)
	assert.Equal(t, registry.Credentials{}, c)
	assert.Contains(t, warned, "docker-credential-none-such")
}

// helper installs a credential helper that answers with this script.
func helper(t *testing.T, name, script string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the helper is a shell script")
	}
	dir := t.TempDir()
	require.NoError(
		t,
		os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o700),
	)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestHelpersAreAsked(t *testing.T) {
	helper(
		t, "fake", `read host; echo "{\"ServerURL\":\"$host\",\"Username\":\"me\",\"Secret\":\"pw of $host\"}"`,
	)
	for _, config := range []string{`{"credsStore":"fake"}`, `{"credHelpers":{"registry.example":"fake"}}`} {
		c, err := docker(t, config).Get(t.Context(), "registry.example", "")
		require.NoError(t, err)
		assert.Equal(t, registry.Credentials{Username: "me", Password: "pw of registry.example"}, c)
	}
}

func TestAnIdentityTokenOfAHelperIsOne(t *testing.T) {
	helper(t, "fake", `echo '{"Username":"<token>","Secret":"it"}'`)
	c, err := docker(t, `{"credsStore":"fake"}`).Get(t.Context(), "registry.example", "")
	require.NoError(t, err)
	assert.Equal(t, registry.Credentials{IdentityToken: "it"}, c)
}

func TestALogInIsKeptAndForgotten(t *testing.T) {
	home := t.TempDir()
	f := logins.Find(env(map[string]string{"HOME": home}))
	path := filepath.Join(home, ".docker", "config.json")
	for _, host := range []string{"registry.example:5000", "registry-1.docker.io"} {
		mine := registry.Credentials{Username: "me", Password: "pw"}
		_, err := f.Delete(t.Context(), host)
		require.ErrorIs(t, err, logins.ErrNone)
		where, err := f.Put(t.Context(), host, mine)
		require.NoError(t, err)
		assert.Equal(t, path, where)
		c, err := f.Get(t.Context(), host, "me/model")
		require.NoError(t, err)
		assert.Equal(t, mine, c)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Contains(t, string(data), fmt.Sprintf("%q", logins.Key(host)))

		where, err = f.Delete(t.Context(), host)
		require.NoError(t, err)
		assert.Equal(t, path, where)
		c, err = f.Get(t.Context(), host, "me/model")
		require.NoError(t, err)
		assert.Equal(t, registry.Credentials{}, c)
	}
	assert.Equal(t, "https://index.docker.io/v1/", logins.Key("registry-1.docker.io"))
}

func TestALogInLeavesTheRestOfTheConfigurationAlone(t *testing.T) {
	f := docker(t, `{"auths":{"other.example":{"auth":"`+encoded("you:pw")+`"}},"detachKeys":"ctrl-x"}`)
	where, err := f.Put(t.Context(), "registry.example", registry.Credentials{Username: "me", Password: "pw"})
	require.NoError(t, err)
	data, err := os.ReadFile(where)
	require.NoError(t, err)
	assert.Contains(t, string(data), "detachKeys")
	assert.Contains(t, string(data), "other.example")
	if runtime.GOOS != "windows" {
		info, err := os.Stat(where)
		require.NoError(t, err)
		assert.Zero(t, info.Mode().Perm()&0o077)
	}
}

func TestAConfigurationThatIsBrokenIsNotOverwritten(t *testing.T) {
	f, mine := docker(t, `{"auths":`), registry.Credentials{Username: "me", Password: "pw"}
	_, err := f.Put(t.Context(), "registry.example", mine)
	require.ErrorIs(t, err, logins.ErrUnreadable)
	_, err = logins.Find(env(nil)).Put(t.Context(), "registry.example", mine)
	require.ErrorContains(t, err, "DOCKER_CONFIG")
}
