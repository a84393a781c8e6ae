package wire

import (
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func mustParse(t testing.TB, raw string) *Registry {
	t.Helper()
	r, err := ParseRegistry(raw)
	require.NoError(t, err)
	return r
}

func TestI10BaseURL(t *testing.T) {
	for _, raw := range []string{
		"", "registry.example", "//registry.example", "http://[::1", "ftp://registry.example", "http://",
		"http:registry.example", "https://user:secret@registry.example", "https://registry.example?x=y",
		"https://registry.example?", "https://registry.example#f", "http://a b",
		"https://user:secret@registry.example:x",
	} {
		_, err := ParseRegistry(raw)
		if assert.Error(t, err, "base URL %q", raw) {
			assert.NotContains(t, err.Error(), "secret")
		}
	}
	dg := digest.FromString("")
	for raw, want := range map[string]string{
		"https://registry.example":        "https://registry.example/v2/a/b/blobs/" + dg.String(),
		"https://registry.example///":     "https://registry.example/v2/a/b/blobs/" + dg.String(),
		"http://127.0.0.1:5000/prefix/x/": "http://127.0.0.1:5000/prefix/x/v2/a/b/blobs/" + dg.String(),
		"https://registry.example/x%2Fy/": "https://registry.example/x%2Fy/v2/a/b/blobs/" + dg.String(),
		"https://registry.example/x/../y": "https://registry.example/y/v2/a/b/blobs/" + dg.String(),
	} {
		got := mustParse(t, raw).Blob("a/b", dg).URL
		assert.Equal(t, want, got.String())
		assert.True(t, strings.HasPrefix(got.RequestURI(), "/"), "the path of a request is absolute")
	}
}

func TestUploadsKeepsItsSlash(t *testing.T) {
	got := mustParse(t, "http://h").Uploads("a", url.Values{"from": {"b"}}).URL.String()
	assert.Equal(t, "http://h/v2/a/blobs/uploads/?from=b", got)
}

func TestMirrorIsToldWhoseBlobItIs(t *testing.T) {
	m := mustParse(t, "http://mirror").Mirror(mustParse(t, "https://registry.example:5000"))
	target := m.Blob("a", "sha256:x")
	assert.Equal(t, "registry.example:5000", target.URL.Query().Get("ns"))
	assert.True(t, target.Left, "a mirror must never see the token")
}

func TestResolve(t *testing.T) {
	const origin = "https://registry.example"
	const base = origin + "/v2/a/blobs/uploads/1?_state=x"
	for _, tt := range []struct {
		name, from, location, want string
		left                       bool
	}{
		{"U2 absolute", base, origin + "/up/2?_state=y%2B&z", origin + "/up/2?_state=y%2B&z", false},
		{"U2 relative path", base, "/up/2?s=1", "https://registry.example/up/2?s=1", false},
		{"U2 relative to the request", base, "2", "https://registry.example/v2/a/blobs/uploads/2", false},
		{"U2 default port told", base, origin + ":443/x", origin + ":443/x", false},
		{"U2 upper case host", base, "https://REGISTRY.example/x", "https://REGISTRY.example/x", false},
		{"N30 another host", base, "https://cdn.example/x", "https://cdn.example/x", true},
		{"N31 subdomain", base, "https://cdn.registry.example/x", "https://cdn.registry.example/x", true},
		{"N31 another port", base, "https://registry.example:444/x", "https://registry.example:444/x", true},
		{"N31 another scheme", "http://registry.example/x", origin + "/x", origin + "/x", true},
		{
			"N31 another scheme at the same port", "http://registry.example:5000/x", origin + ":5000/x",
			origin + ":5000/x", true,
		},
		{"U5 private networks are fine", base, "https://192.168.1.1/x", "https://192.168.1.1/x", true},
		{
			"U5 loopback is fine from loopback", "http://127.0.0.1:1/x", "http://localhost:2/x",
			"http://localhost:2/x", true,
		},
		{"fragment dropped", base, "/x#f", "https://registry.example/x", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.Parse(tt.from)
			require.NoError(t, err)
			r := mustParse(t, u.Scheme+"://"+u.Host)
			next, err := Target{URL: u, registry: r}.Resolve(tt.location)
			require.NoError(t, err)
			assert.Equal(t, tt.want, next.URL.String())
			assert.Equal(t, tt.left, next.Left)
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	for name, location := range map[string]string{
		"N28 nothing": "", "N28 garbage": "http://[::1", "N28 control character": "http://a\x7f/",
		"N29 https to http": "http://registry.example/x",
		"U4 file":           "file:///etc/passwd", "U4 ftp": "ftp://registry.example/x",
		"U4 opaque": "https:x", "U4 no host": "https:///x",
		"U4 user": "https://user:secret@registry.example/x", "U4 port only": "https://:443/x",
		"U5 localhost": "https://localhost/x", "U5 name below localhost": "https://x.localhost./x",
		"U5 loopback": "https://127.9.9.9/x", "U5 loopback v6": "https://[::1]/x",
		"U5 mapped": "https://[::ffff:127.0.0.1]/x", "U5 unspecified": "https://0.0.0.0/x",
		"U5 metadata": "https://169.254.169.254/latest", "U5 link-local v6": "https://[fe80::1%25eth0]/x",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := mustParse(t, "https://registry.example").Blob("a", "sha256:x").Resolve(location)
			require.ErrorIs(t, err, ErrRedirectRefused)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
	t.Run("U5 metadata from loopback", func(t *testing.T) {
		from := mustParse(t, "http://127.0.0.1:5000").Blob("a", "sha256:x")
		_, err := from.Resolve("http://169.254.169.254/")
		require.ErrorIs(t, err, ErrRedirectRefused)
	})
}

func TestN30OnceLeftAlwaysLeft(t *testing.T) {
	target := mustParse(t, "https://registry.example").Blob("a", "sha256:x")
	for _, location := range []string{"https://cdn.example/", "https://registry.example/back"} {
		var err error
		target, err = target.Resolve(location)
		require.NoError(t, err)
		assert.True(t, target.Left)
	}
}

func TestRealm(t *testing.T) {
	r := mustParse(t, "https://registry.example")
	from := r.Blob("a", "sha256:x")
	for realm, want := range map[string]string{
		"https://auth.example/token": "https://auth.example/token",
		"/token?a=b":                 "https://registry.example/token?a=b",
		"//auth.example/token":       "https://auth.example/token",
		"../token":                   "https://registry.example/v2/a/token",
	} {
		target, err := from.Realm(realm)
		require.NoError(t, err)
		assert.Equal(t, want, target.URL.String())
	}
	for _, realm := range []string{
		"http://auth.example/token", "file:///x", "https://127.0.0.1/", "https://169.254.169.254/",
		"Registry",
		"//127.0.0.1/token", "auth.example/token",
	} {
		_, err := from.Realm(realm)
		require.ErrorIs(t, err, ErrRedirectRefused, realm)
	}
}

func TestWithQueryKeepsTheState(t *testing.T) {
	from := mustParse(t, "https://registry.example").Uploads("a", url.Values{})
	target, err := from.Resolve("/up?_state=b%2Fa%3D&x")
	require.NoError(t, err)
	added := target.WithQuery("digest", "sha256:ab")
	assert.Equal(t, "_state=b%2Fa%3D&x&digest=sha256%3Aab", added.URL.RawQuery)
	assert.Equal(t, "_state=b%2Fa%3D&x", target.URL.RawQuery, "the target itself must stay as it was")
}

func TestI15Redact(t *testing.T) {
	const query = "?X-Amz-Signature=secret&digest=sha256:ab&_state=secret&secret&=secret&from&"
	u, err := url.Parse("https://user:secret@h.example/a%20b" + query)
	require.NoError(t, err)
	shown := strings.ReplaceAll(strings.TrimSuffix(query, "&"), "secret", "***")
	assert.Equal(t, "https://h.example/a%20b"+shown, Redact(u))
	u.Path = strings.Repeat("long", 1000)
	assert.LessOrEqual(t, len(Redact(u)), maxShownURL+3)
}

func TestI15AURLWithoutASchemeIsShownAsItIs(t *testing.T) {
	for raw, want := range map[string]string{
		"localhost": "localhost", "registry.example/a": "registry.example/a",
		"//registry.example": "registry.example", "localhost:5000": "localhost:5000",
		"user:secret@h": "user:***", "user:1234567": "user:***",
	} {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		assert.Equal(t, want, Redact(u))
		_, err = ParseRegistry(raw)
		assert.EqualError(t, err,
			`base URL "`+want+`": the scheme must be http or https, as in https://registry.example`)
	}
}

func TestI11Repository(t *testing.T) {
	for _, name := range []string{
		"", "/", "a//b", "/a", "a/", "..", "a/../b", "../b", "a/..", ".", "a/./b", `a\b`, "a%2fb", "a?b",
		"a#b", "a\x00b", "a\nb", "a b", "é", strings.Repeat("a", 1025),
	} {
		assert.Error(t, CheckRepository(name), "%q", name)
	}
	for _, name := range []string{
		"library/_", "library/model", "Mixed/Case.Name-1_2", "a", "a/b/c/d", "a..b", "a/x..y", "a/..b",
	} {
		assert.NoError(t, CheckRepository(name), "%q", name)
	}
}

func TestTag(t *testing.T) {
	for _, name := range []string{"", ".a", "-a", "a/b", "a b", "a?b", strings.Repeat("a", 129)} {
		assert.Error(t, CheckTag(name), "%q", name)
	}
	for _, name := range []string{"latest", "v1.0", "_x", "8B-q4_K_M"} {
		assert.NoError(t, CheckTag(name), "%q", name)
	}
}

func FuzzLocation(f *testing.F) {
	for _, seed := range []string{
		"", "/x?y=z", "https://cdn.example/x?sig=1", "http://registry.example/", "//evil.example/x",
		"https://registry.example@evil.example/", "file:///etc/passwd", "https://127.0.0.1/",
		"https:\\\\evil", "?q", "https://[::1]:443/x", "https://registry.example.:443/",
		"https://１２７.0.0.1/",
		"https://0x7f.1:443/a b%2F?c d",
	} {
		f.Add(seed)
	}
	r := mustParse(f, "https://registry.example")
	f.Fuzz(func(t *testing.T, location string) {
		next, err := r.Blob("a", "sha256:x").Resolve(location)
		if err != nil {
			require.ErrorIs(t, err, ErrRedirectRefused)
			return
		}
		require.Equal(t, "https", next.URL.Scheme)
		require.Nil(t, next.URL.User)
		require.NotEmpty(t, next.URL.Hostname())
		if !next.Left {
			require.True(t, strings.EqualFold(next.URL.Hostname(), "registry.example"))
			require.Contains(t, []string{"", "443"}, next.URL.Port())
		}
		_ = Redact(next.URL)
	})
}
