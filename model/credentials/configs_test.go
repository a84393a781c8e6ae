package credentials_test

import (
	"os"
	"strings"
	"testing"

	"github.com/modeltransfer/transfer/model/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Configurations as they exist, and what Docker (cli 29.7) and oras (oras-go 2.7) answer for a host: name,
// password and identity token. Where these differ from what is wanted, the last column says why.
var configs = []struct{ name, config, host, want, docker, oras, why string }{
	{"docker login", entry("registry.example"), example, "me:pw:", "me:pw:", "me:pw:", ""},
	{"a port", entry("registry.example:5000"), "registry.example:5000", "me:pw:", "me:pw:", "me:pw:", ""},
	{"another port", entry("registry.example:5000"), example, "::", "::", "::", ""},
	{"Docker Hub", entry("https://index.docker.io/v1/"), hub, "me:pw:", "me:pw:", "me:pw:", ""},
	{"Docker Hub without a scheme", entry("index.docker.io/v1/"), hub, "me:pw:", "::", "::",
		"podman reads it"},
	{"Docker Hub by its name", entry("docker.io"), hub, "me:pw:", "::", "::", "podman writes it"},
	{"a namespace of Docker Hub", entry("docker.io/acme"), hub, "me:pw:", "::", "::", "podman writes it"},
	{"another namespace of it", entry("docker.io/other"), hub, "::", "::", "::", ""},
	{"an old URL", entry("https://registry.example/v1/"), example, "me:pw:", "me:pw:", "me:pw:", ""},
	{"an old URL without a scheme", entry("registry.example/v1/"), example,
		"me:pw:", "me:pw:", "me:pw:", ""},
	{"a URL of version 2", entry("https://registry.example/v2/"), example,
		"me:pw:", "me:pw:", "me:pw:", ""},
	{"http", entry("http://registry.example"), example, "me:pw:", "me:pw:", "me:pw:", ""},
	{"a path", entry("registry.example/team"), example, "me:pw:", "me:pw:", "me:pw:", ""},
	{"apart", `{"auths":{"registry.example":{"username":"me","password":"pw"}}}`, example,
		"me:pw:", "me:pw:", "me:pw:", ""},
	{"an identity token", `{"auths":{"registry.example":{"auth":"NIL","identitytoken":"it"}}}`, example,
		"0000::it", "0000::it", "0000::it", ""},
	{"several lines", `{"auths":{"registry.example":{"auth":"KEY"}}}`, example,
		"_json_key:{\n \"a\": 1\n}\n:", "_json_key:{\n \"a\": 1\n}\n:", "_json_key:{\n \"a\": 1\n}\n:", ""},
	{"a colon", `{"auths":{"registry.example":{"auth":"COLON"}}}`, example,
		"me:p:w:", "me:p:w:", "me:p:w:", ""},
	{"padding", `{"auths":{"registry.example":{"auth":"PADDED"}}}`, example, "me:pw:", "me:pw:", "me:pw\x00:",
		"Docker takes it off"},
	{"a store", `{"auths":{"registry.example":{}},"credsStore":"fake"}`, example, "::it", "::it", "::it", ""},
	{"a store, Docker Hub", `{"auths":{"https://index.docker.io/v1/":{}},"credsStore":"fake"}`, hub,
		"hub:pw:", "hub:pw:", "hub:pw:", ""},
	{"a store that has none", `{"auths":{"other.example":{"auth":"ME"}},"credsStore":"fake"}`,
		"other.example", "::", "::", "::", ""},
	{"a helper", `{"credHelpers":{"registry.example":"fake"}}`, example, "::it", "::it", "::it", ""},
	{"a helper of Docker Hub", `{"credHelpers":{"docker.io":"fake"}}`, hub,
		"hub:pw:", "::", "::", "podman asks it"},
	{"a helper of another",
		`{"auths":{"registry.example":{"auth":"ME"}},"credHelpers":{"other.example":"fake"}}`, example,
		"me:pw:", "me:pw:", "me:pw:", ""},
	{"a store that is not installed", `{"auths":{},"credsStore":"desktop.exe"}`, example,
		"::", "error", "error", "what is public needs none"},
	{"an empty entry", `{"auths":{"registry.example":{}}}`, example, "::", "::", "::", ""},
	{"an empty file", ``, example, "::", "::", "::", ""},
	{"a byte order mark", "\xef\xbb\xbf" + entry("registry.example"), example,
		"me:pw:", "error", "error", "Notepad writes it"},
	{"other settings", `{"HttpHeaders":{"User-Agent":"x"},"psFormat":"table",` +
		`"currentContext":"desktop-linux","plugins":{},"auths":{"registry.example":{"auth":"ME"}}}`, example,
		"me:pw:", "me:pw:", "me:pw:", ""},
	{"null", `{"auths":null,"credHelpers":null}`, example, "::", "::", "::", ""},
}

const (
	hub     = "registry-1.docker.io"
	example = "registry.example"
)

// entry is a configuration with one log-in.
func entry(key string) string { return `{"auths":{"` + key + `":{"auth":"ME"}}}` }

func TestA4ConfigurationsAsTheyExist(t *testing.T) {
	helper(t, "fake", `read host
case "$host" in
https://index.docker.io/v1/) echo '{"Username":"hub","Secret":"pw"}';;
registry.example) echo '{"Username":"<token>","Secret":"it"}';;
*) echo 'credentials not found in native keychain'; exit 1;;
esac
`)
	secrets := strings.NewReplacer(
		"ME", encoded("me:pw"),
		"NIL", encoded("0000:"),
		"COLON", encoded("me:p:w"),
		"KEY", encoded("_json_key:{\n \"a\": 1\n}\n"),
		"PADDED", encoded("me:pw\x00"))
	for _, test := range configs {
		t.Run(test.name, func(t *testing.T) {
			c, err := docker(t, secrets.Replace(test.config)).Get(t.Context(), test.host, "acme/model")
			require.NoError(t, err)
			assert.Equal(t, test.want, c.Username+":"+c.Password+":"+c.IdentityToken)
			agreed := test.want == test.docker && test.want == test.oras
			assert.Equal(t, agreed, test.why == "", "what differs from the others has a reason")
		})
	}
}

// PowerShell writes UTF-16 where a person redirects into a file.
func TestA4AFileOfPowerShellIsRead(t *testing.T) {
	text := `{"auths":{"registry.example":{"auth":"` + encoded("me:pw") + `"}}}`
	for _, big := range []bool{false, true} {
		wide := []byte{0xff, 0xfe}
		if big {
			wide = []byte{0xfe, 0xff}
		}
		for _, c := range []byte(text) {
			if big {
				wide = append(wide, 0, c)
			} else {
				wide = append(wide, c, 0)
			}
		}
		c, err := docker(t, string(wide)).Get(t.Context(), example, "")
		require.NoError(t, err)
		assert.Equal(t, "pw", c.Password)
	}
}

func TestA4EachNamespaceOfPodmanHasItsLogIn(t *testing.T) {
	path := t.TempDir() + "/auth.json"
	login := func(name string) string { return `"` + name + `":{"auth":"` + encoded(name+":pw") + `"}` }
	require.NoError(t, os.WriteFile(path, []byte(`{"auths":{`+strings.Join([]string{
		login("docker.io"), login("docker.io/acme"), login("docker.io/acme/model"), login("quay.io/acme"),
	}, ",")+`}}`), 0o600))
	f := credentials.Find(env(map[string]string{"REGISTRY_AUTH_FILE": path}))
	for repository, want := range map[string]string{
		"acme/model": "docker.io/acme/model", "acme/other": "docker.io/acme",
		"acmes/model": "docker.io", "library/x": "docker.io",
	} {
		c, err := f.Get(t.Context(), hub, repository)
		require.NoError(t, err)
		assert.Equal(t, want, c.Username)
	}
	for repository, want := range map[string]string{"acme/model": "quay.io/acme", "other/model": ""} {
		c, err := f.Get(t.Context(), "quay.io", repository)
		require.NoError(t, err)
		assert.Equal(t, want, c.Username)
	}
}
