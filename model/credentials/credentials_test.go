package credentials_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/modeltransfer/transfer/model/credentials"
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
func docker(t *testing.T, content string) credentials.Files {
	t.Helper()
	home := t.TempDir()
	write(t, filepath.Join(home, ".docker", "config.json"), content)
	return credentials.Find(env(map[string]string{"HOME": home}))
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestCredentialsAreFoundInTheDockerConfiguration(t *testing.T) {
	f := docker(t, fmt.Sprintf(`{"auths":{
		"registry.example:5000":{"auth":%[1]q}, "https://other.example/v2/":{"auth":%[1]q},
		"plain.example":{"username":"me","password":"p:w"},
		"token.example":{"auth":%[2]q,"identitytoken":"it"},
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
	f := credentials.Find(env(map[string]string{"HOME": home, "XDG_RUNTIME_DIR": run}))
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
		c, err := credentials.Find(env(vars)).Get(t.Context(), "registry.example", "me/model")
		require.NoError(t, err)
		assert.Equal(t, registry.Credentials{}, c)
	}
}

// What is public can be pulled whatever the configuration is like; what is wrong with it is told.
func TestA4CredentialsThatCannotBeReadAreToldWithoutTheirSecret(t *testing.T) {
	helper(t, "broken", `echo "cannot open the display"; exit 1`)
	helper(t, "babbling", `echo "hello"`)
	helper(t, "silent", `echo secret >&2; exit 3`)
	const malformed, missing = "malformed entry of registry.example", "docker-credential-none-such"
	for name, test := range map[string]struct{ config, want string }{
		"not JSON":     {`{"auths":secret`, "not JSON of Docker's form"},
		"another form": {`{"auths":["secret"]}`, "not JSON of Docker's form: auths"},
		"not base64":   {`{"auths":{"registry.example":{"auth":"secret!!"}}}`, malformed},
		"without a colon": {
			`{"auths":{"registry.example":{"auth":"` + encoded("secret") + `"}}}`, malformed,
		},
		"of another type":   {`{"auths":{"registry.example":"secret"}}`, malformed},
		"a registry token":  {`{"auths":{"registry.example":{"registrytoken":"secret"}}}`, "a registrytoken"},
		"a missing store":   {`{"auths":{"registry.example":{}},"credsStore":"none-such"}`, missing},
		"the host's helper": {`{"credHelpers":{"registry.example":"none-such"}}`, missing},
		"Docker Desktop's": {
			`{"auths":{"registry.example":{}},"credsStore":"desktop.exe"}`, "docker-credential-desktop.exe",
		},
		"a broken helper":  {`{"credsStore":"broken"}`, "cannot open the display"},
		"one that babbles": {`{"credsStore":"babbling"}`, "not JSON of its protocol"},
		"one that is mute": {`{"credsStore":"silent"}`, "exit status 3"},
		"a path":           {`{"credsStore":"../../x"}`, "no name of a program"},
	} {
		t.Run(name, func(t *testing.T) {
			f := docker(t, test.config)
			var told []*credentials.Unreadable
			f.Skipped = func(u *credentials.Unreadable) { told = append(told, u) }
			c, err := f.Get(t.Context(), "registry.example", "me/model")
			require.NoError(t, err)
			assert.Equal(t, registry.Credentials{}, c)
			require.Len(t, told, 1)
			require.ErrorIs(t, told[0], credentials.ErrUnreadable)
			require.ErrorContains(t, told[0], test.want)
			assert.NotContains(t, told[0].Error(), "secret")
			assert.NotContains(t, told[0].Error(), encoded("secret"))
		})
	}
}

func TestA4AProgramThatIsNotInstalledIsKnownAsThat(t *testing.T) {
	for _, name := range []string{"none-such", "desktop.exe"} {
		f := docker(t, `{"credsStore":"`+name+`"}`)
		var told *credentials.Unreadable
		f.Skipped = func(u *credentials.Unreadable) { told = u }
		_, err := f.Get(t.Context(), "registry.example", "me/model")
		require.NoError(t, err)
		require.ErrorIs(t, told, exec.ErrNotFound)
		assert.Equal(t, name, told.Helper)
		_, err = f.Put(t.Context(), "registry.example", registry.Credentials{Username: "me", Password: "pw"})
		require.ErrorIs(t, err, exec.ErrNotFound, "another log-in would not help")
		_, err = f.Delete(t.Context(), "registry.example")
		require.ErrorIs(t, err, credentials.ErrUnreadable)
	}
}

// A password in a file is the plain way where the store that is to have it does not work.
func TestA4AFileIsReadWhereItsStoreDoesNotWork(t *testing.T) {
	f := docker(t, fmt.Sprintf(`{"auths":{"registry.example":{"auth":%q}},"credsStore":"none-such"}`,
		encoded("me:pw")))
	c, err := f.Get(t.Context(), "registry.example", "me/model")
	require.NoError(t, err)
	assert.Equal(t, registry.Credentials{Username: "me", Password: "pw"}, c)
}

func TestA4WaitingForAProgramEndsWithTheContext(t *testing.T) {
	helper(t, "hanging", `sleep 600 & wait`)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := docker(t, `{"credsStore":"hanging"}`).Get(ctx, "registry.example", "")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(begin), 30*time.Second)
}

func TestH12ProgramsDoNotGetWhatIsHidden(t *testing.T) {
	t.Setenv("HIDDEN_PASSWORD", "hunter2")
	t.Setenv("OPEN", "yes")
	helper(t, "env", `echo "{\"Username\":\"me\",\"Secret\":\"$OPEN-$HIDDEN_PASSWORD\"}"`)
	f := docker(t, `{"credsStore":"env"}`)
	for _, want := range []string{"yes-hunter2", "yes-"} {
		c, err := f.Get(t.Context(), "registry.example", "")
		require.NoError(t, err)
		assert.Equal(t, want, c.Password)
		f.Hidden = []string{"HIDDEN_PASSWORD"}
	}
}

func TestH12AConfigurationThatIsALinkStaysOne(t *testing.T) {
	for _, there := range []bool{true, false} {
		home, dotfiles := t.TempDir(), t.TempDir()
		real := filepath.Join(dotfiles, "docker.json")
		if there {
			write(t, real, `{"detachKeys":"ctrl-x"}`)
		}
		path := filepath.Join(home, ".docker", "config.json")
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		relative, err := filepath.Rel(filepath.Dir(path), real)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(relative, path))
		f := credentials.Find(env(map[string]string{"HOME": home}))
		_, err = f.Put(t.Context(), "registry.example", registry.Credentials{Username: "me", Password: "pw"})
		require.NoError(t, err)
		info, err := os.Lstat(path)
		require.NoError(t, err)
		assert.NotZero(t, info.Mode()&os.ModeSymlink)
		data, err := os.ReadFile(real)
		require.NoError(t, err)
		assert.Contains(t, string(data), "registry.example")
		assert.Equal(t, there, strings.Contains(string(data), "detachKeys"))
		left, err := os.ReadDir(dotfiles)
		require.NoError(t, err)
		assert.Len(t, left, 1)
	}
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
	helper(t, "fake", `read host
echo "{\"ServerURL\":\"$host\",\"Username\":\"me\",\"Secret\":\"pw of $host\"}"`)
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
	f := credentials.Find(env(map[string]string{"HOME": home}))
	path := filepath.Join(home, ".docker", "config.json")
	for _, host := range []string{"registry.example:5000", "registry-1.docker.io"} {
		mine := registry.Credentials{Username: "me", Password: "pw"}
		_, err := f.Delete(t.Context(), host)
		require.ErrorIs(t, err, credentials.ErrNone)
		where, err := f.Put(t.Context(), host, mine)
		require.NoError(t, err)
		assert.Equal(t, path, where)
		c, err := f.Get(t.Context(), host, "me/model")
		require.NoError(t, err)
		assert.Equal(t, mine, c)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Contains(t, string(data), fmt.Sprintf("%q", credentials.Key(host)))

		where, err = f.Delete(t.Context(), host)
		require.NoError(t, err)
		assert.Equal(t, path, where)
		c, err = f.Get(t.Context(), host, "me/model")
		require.NoError(t, err)
		assert.Equal(t, registry.Credentials{}, c)
	}
	assert.Equal(t, "https://index.docker.io/v1/", credentials.Key("registry-1.docker.io"))
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
	require.ErrorIs(t, err, credentials.ErrUnreadable)
	_, err = credentials.Find(env(nil)).Put(t.Context(), "registry.example", mine)
	require.ErrorContains(t, err, "DOCKER_CONFIG")
}
