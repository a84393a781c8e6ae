package ref_test

import (
	"strings"
	"testing"

	"github.com/modeltransfer/transfer/model/ref"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestReferencesAreParsed(t *testing.T) {
	for text, want := range map[string]string{
		"all-minilm":                          "https://registry.ollama.ai/library/all-minilm:latest",
		"all-minilm:22m":                      "https://registry.ollama.ai/library/all-minilm:22m",
		"qwen2.5:7b":                          "https://registry.ollama.ai/library/qwen2.5:7b",
		"me/model:v1":                         "https://registry.ollama.ai/me/model:v1",
		"model@" + someDigest:                 "https://registry.ollama.ai/library/model@" + someDigest,
		"registry.example/model":              "https://registry.example/model:latest",
		"registry.example/a/b/c:v1":           "https://registry.example/a/b/c:v1",
		"registry.example:8443/me/Model:v1":   "https://registry.example:8443/me/Model:v1",
		"registry.example/m:v1@" + someDigest: "https://registry.example/m:v1@" + someDigest,
		"localhost/model":                     "http://localhost/model:latest",
		"localhost:5000/me/model":             "http://localhost:5000/me/model:latest",
		"localhost:5000/a/x..y":               "http://localhost:5000/a/x..y:latest",
		"127.0.0.1:5000/model":                "http://127.0.0.1:5000/model:latest",
		"[::1]:5000/model":                    "http://[::1]:5000/model:latest",
		"[2001:db8::1]/model":                 "https://[2001:db8::1]/model:latest",
		"http://localhost:5000/repo:tag":      "http://localhost:5000/repo:tag",
		"https://localhost:5000/repo":         "https://localhost:5000/repo:latest",
		"http://registry/repo":                "http://registry/repo:latest",
		"10.0.0.1:5000/model":                 "https://10.0.0.1:5000/model:latest",
		"localhost.example/model":             "https://localhost.example/model:latest",
		"docker.io/alpine":                    "https://registry-1.docker.io/library/alpine:latest",
		"docker.io/ai/smollm2:1":              "https://registry-1.docker.io/ai/smollm2:1",
		"index.docker.io/library/alpine":      "https://registry-1.docker.io/library/alpine:latest",
		"registry-1.docker.io/alpine":         "https://registry-1.docker.io/library/alpine:latest",
		"oci://registry.example/me/m:v1":      "https://registry.example/me/m:v1",
		"oci://localhost:5000/m":              "http://localhost:5000/m:latest",
		"docker://docker.io/alpine":           "https://registry-1.docker.io/library/alpine:latest",
	} {
		t.Run(text, func(t *testing.T) {
			r, err := ref.Parse(text)
			require.NoError(t, err)
			assert.Equal(t, want, r.URL())
		})
	}
}

func TestMalformedReferencesAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "/", ":", "@", "model:", "model@", "model@sha256:abc", "model:v1@md5:abc", "a//b", "a/",
		"../b", "localhost:5000/../b", "localhost:5000/a/..", "localhost:5000/./b",
		"http://", "http://localhost:5000", "http:///repo", "ftp://localhost/repo",
		"oci://", "oci://oci://localhost/repo", "oci://ftp://localhost/repo", "a b",
		"localhost:port/repo", "localhost:5000/repo?x", "localhost:5000/repo#x", "localhost:5000/re%2fpo",
		"-a", "a/-b",
		"model:" + strings.Repeat("x", 129), "model:.tag", "http://local\nhost/repo", "host_:5000/\x00",
	} {
		_, err := ref.Parse(text)
		assert.Error(t, err, "%q", text)
	}
}

func TestAPasswordInAReferenceIsNotRepeated(t *testing.T) {
	for _, text := range []string{"https://me:hunter2@registry.example/a", "me:hunter2@registry.example/a"} {
		_, err := ref.Parse(text)
		require.ErrorIs(t, err, ref.ErrCredentials)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestADigestNamesTheManifestBeforeATag(t *testing.T) {
	r, err := ref.Parse("registry.example/m:v1@" + someDigest)
	require.NoError(t, err)
	assert.Equal(t, someDigest, r.Version())
	assert.Equal(t, "v1", r.Tag)
}

func TestASchemeThatGoesWithoutSayingIsNotSaid(t *testing.T) {
	for text, want := range map[string]string{
		"https://registry.example/m:v1": "registry.example/m:v1",
		"http://registry.example/m:v1":  "http://registry.example/m:v1",
		"http://localhost:5000/m":       "localhost:5000/m:latest",
		"https://localhost:5000/m":      "https://localhost:5000/m:latest",
		"https://registry/m":            "https://registry/m:latest",
		"http://registry:80/m":          "http://registry:80/m:latest",
		"all-minilm":                    "registry.ollama.ai/library/all-minilm:latest",
		"docker.io/alpine":              "docker.io/library/alpine:latest",
		"registry-1.docker.io/ai/m:v1":  "docker.io/ai/m:v1",
		"http://docker.io/alpine":       "http://registry-1.docker.io/library/alpine:latest",
		"registry-1.docker.io:443/ai/m": "registry-1.docker.io:443/ai/m:latest",
	} {
		r, err := ref.Parse(text)
		require.NoError(t, err)
		assert.Equal(t, want, r.String())
	}
	r, err := ref.Parse("http://registry.example/m@" + someDigest)
	require.NoError(t, err)
	assert.Equal(t, "http://registry.example/m", r.Bare().String())
	assert.Equal(t, "http://registry.example", r.Registry())
	r, err = ref.ParseRegistry("index.docker.io")
	require.NoError(t, err)
	assert.Equal(t, "docker.io", r.Registry())
	assert.Equal(t, "https://registry-1.docker.io", r.BaseURL())
}

func FuzzParseReference(f *testing.F) {
	f.Add("registry.example:5000/me/model:v1@" + someDigest)
	f.Add("http://[::1]:5000/a:b")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ref.Parse(text)
		if err != nil {
			return
		}
		for _, written := range []string{r.String(), r.URL()} {
			again, err := ref.Parse(written)
			require.NoError(t, err)
			assert.Equal(t, r, again)
		}
	})
}

func TestARegistryWithoutARepositoryIsNamedSo(t *testing.T) {
	for _, text := range []string{
		"10.0.0.1:5000", "10.0.0.1", "[::1]:5000", "localhost", "localhost:5000", "registry.example:5000",
		"http://registry.example", "https://10.0.0.1:5000/", "docker.io", "ghcr.io",
	} {
		_, err := ref.Parse(text)
		require.ErrorContains(t, err, "names a registry but no repository", text)
	}
}

func TestASchemeAloneNamesNothing(t *testing.T) {
	_, err := ref.Parse("http://")
	require.ErrorContains(t, err, `malformed host ""`)
}

func TestARepositoryNeedsNoTag(t *testing.T) {
	r, err := ref.ParseRepository("registry.example/me/model")
	require.NoError(t, err)
	assert.Equal(t, "https://registry.example/me/model", r.URL())
}

func TestRegistriesAreParsed(t *testing.T) {
	for text, want := range map[string]string{
		"registry.example": "https://registry.example", "localhost:5000": "http://localhost:5000",
		"docker.io": "https://registry-1.docker.io", "http://myhost:5000/": "http://myhost:5000",
	} {
		r, err := ref.ParseRegistry(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, r.BaseURL())
	}
	for _, text := range []string{"", "registry.example/me", "ftp://x", "a b", "me:pw@registry.example"} {
		_, err := ref.ParseRegistry(text)
		require.Error(t, err, text)
	}
}
