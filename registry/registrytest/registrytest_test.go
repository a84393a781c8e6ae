package registrytest_test

import (
	"context"
	"flag"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	internal "github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
	"github.com/modeltransfer/transfer/registry/registrytest"
)

// TestMain fails when a server has left a goroutine behind.
func TestMain(m *testing.M) { internal.Main(m) }

// get returns the status and the body of a request.
func get(t *testing.T, s *registrytest.Server, path string, login func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	require.NoError(t, err)
	if login != nil {
		login(req)
	}
	res, err := s.Client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func TestWhatWasPutIsServed(t *testing.T) {
	for name, opts := range map[string]registrytest.Options{"http": {}, "https": {TLS: true}} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(opts)
			defer s.Close()
			blob := s.PutBlob("a/b", []byte("hello"))
			manifest := s.PutManifest("a/b", "v1", []byte(`{"mediaType":"text/x"}`))
			untagged := s.PutManifest("a/b", "", []byte("no manifest"))

			status, body := get(t, s, "/v2/a/b/blobs/"+blob, nil)
			assert.Equal(t, []any{200, "hello"}, []any{status, body})
			for _, ref := range []string{"v1", manifest} {
				_, body = get(t, s, "/v2/a/b/manifests/"+ref, nil)
				assert.Equal(t, `{"mediaType":"text/x"}`, body)
			}
			_, body = get(t, s, "/v2/a/b/manifests/"+untagged, nil)
			assert.Equal(t, "no manifest", body)
			_, body = get(t, s, "/v2/a/b/tags/list", nil)
			assert.JSONEq(t, `{"name":"a/b","tags":["v1"]}`, body)
			status, _ = get(t, s, "/v2/other/blobs/"+blob, nil)
			assert.Equal(t, 404, status)

			data, ok := s.Blob("a/b", blob)
			assert.True(t, ok)
			assert.Equal(t, "hello", string(data))
			for _, dg := range []string{"", "sha256:", digest.FromString("x").String()} {
				_, ok = s.Blob("a/b", dg)
				assert.False(t, ok, dg)
			}
			_, ok = s.Blob("other", blob)
			assert.False(t, ok)
			data, ok = s.Manifest("a/b", "v1")
			assert.True(t, ok)
			assert.Equal(t, manifest, digest.FromBytes(data).String())
			_, ok = s.Manifest("a/b", "v2")
			assert.False(t, ok)
		})
	}
}

func TestRequestsAreRemembered(t *testing.T) {
	s := registrytest.New(registrytest.Options{})
	blob := s.PutBlob("a/b", []byte("hello"))
	get(t, s, "/v2/a/b/blobs/"+blob+"?x=y", func(r *http.Request) { r.Header.Set("Range", "bytes=1-2") })
	get(t, s, "/v2/", nil)
	s.Close()
	all := s.Requests()
	require.Len(t, all, 2)
	assert.Equal(t, "bytes=1-2", all[0].Header.Get("Range"))
	all[0].Header = nil
	want := registrytest.Request{
		Method: "GET", Path: "/v2/a/b/blobs/" + blob, RawQuery: "x=y", Status: 206, Sent: 2,
	}
	assert.Equal(t, want, all[0])
	assert.Equal(t, []int{2, 1, 1, 0},
		[]int{s.Count("", ""), s.Count("GET", blob), s.Count("", "x=y"), s.Count("PUT", "")})
}

func TestBasicAuthentication(t *testing.T) {
	s := registrytest.New(registrytest.Options{Username: "ada", Password: "secret"})
	defer s.Close()
	blob := s.PutBlob("a/b", []byte("hello"))
	for _, c := range []struct {
		username, password string
		status             int
	}{{"ada", "secret", 200}, {"ada", "wrong", 401}, {"eve", "secret", 401}, {"", "", 401}} {
		login := func(r *http.Request) { r.SetBasicAuth(c.username, c.password) }
		status, _ := get(t, s, "/v2/a/b/blobs/"+blob, login)
		assert.Equal(t, c.status, status, c)
	}
	repo := open(t, s, registry.Credentials{Username: "ada", Password: "secret"})
	require.NoError(t, repo.Ping(t.Context()))
}

// A token is given for a password, and good for what it was asked for.
func TestTokens(t *testing.T) {
	s := registrytest.New(registrytest.Options{Username: "ada", Password: "secret", Tokens: true})
	defer s.Close()
	blob := s.PutBlob("a/b", []byte("hello"))
	ada := func(r *http.Request) { r.SetBasicAuth("ada", "secret") }
	status, _ := get(t, s, "/token?scope=repository:a/b:pull", nil)
	assert.Equal(t, 401, status)
	for scopes, want := range map[string]int{
		"scope=repository:a/b:pull":                             200,
		"scope=repository:a/b:pull,push":                        200,
		"scope=repository:other:pull+repository:a/b:pull":       200,
		"scope=repository:other:pull&scope=repository:a/b:pull": 200,
		"scope=repository:a/b:push":                             401,
		"scope=repository:a:pull":                               401,
		"scope=repository:a/b":                                  401,
		"scope=registry:catalog:*":                              401,
		"":                                                      401,
	} {
		status, answer := get(t, s, "/token?"+scopes, ada)
		require.Equal(t, 200, status)
		token := strings.Split(answer, `"`)[5]
		bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
		status, _ = get(t, s, "/v2/a/b/blobs/"+blob, bearer)
		assert.Equal(t, want, status, scopes)
		status, _ = get(t, s, "/v2/", bearer)
		assert.Equal(t, 200, status, scopes)
	}
	status, _ = get(t, s, "/v2/a/b/blobs/"+blob, ada)
	assert.Equal(t, 401, status, "a password is no token")
	login := registry.Credentials{Username: "ada", Password: "secret"}
	require.NoError(t, open(t, s, login).Ping(t.Context()))
	login.Password = "wrong"
	require.ErrorIs(t, open(t, s, login).Ping(t.Context()), registry.ErrUnauthorized)
}

func TestAnonymousTokens(t *testing.T) {
	s := registrytest.New(registrytest.Options{Tokens: true})
	defer s.Close()
	s.PutManifest("library/model", "v1", []byte(`{"schemaVersion":2}`))
	tags, err := open(t, s, registry.Credentials{}).Tags(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"v1"}, tags)
	assert.Equal(t, 1, s.Count("GET", "/token"))
}

// The catalog has what there is, for tokens that are good for it.
func TestCatalog(t *testing.T) {
	s := registrytest.New(registrytest.Options{Tokens: true})
	defer s.Close()
	s.PutBlob("b/c", []byte("hello"))
	s.PutManifest("a", "v1", []byte("{}"))
	_, found := s.Manifest("asked/for", "v1")
	require.False(t, found)
	var names []string
	for name, err := range registry.Repositories(t.Context(), registry.Options{BaseURL: s.URL}) {
		require.NoError(t, err)
		names = append(names, name)
	}
	assert.Equal(t, []string{"a", "b/c"}, names)
	assert.Equal(t, 1, s.Count("GET", "scope=registry%3Acatalog%3A%2A"))
}

func open(t *testing.T, s *registrytest.Server, c registry.Credentials) *registry.Repository {
	t.Helper()
	repo, err := registry.Open(registry.Options{
		BaseURL: s.URL, Repository: "library/model", Credentials: c, Client: s.Client,
	})
	require.NoError(t, err)
	return repo
}

func TestFaultThatCannotBeUnderstood(t *testing.T) {
	s := registrytest.New(registrytest.Options{})
	defer s.Close()
	for _, script := range []string{
		"", "nosuchfault", "0*503", "reset(", "reset(x)", "**503->ok", "206+503",
	} {
		assert.Error(t, s.Fault("", "", script), script)
	}
	require.NoError(t, s.Fault("", "/v2/", "2*503->404"))
	var got []int
	for range 4 {
		status, _ := get(t, s, "/v2/", nil)
		got = append(got, status)
	}
	assert.Equal(t, []int{503, 503, 404, 200}, got)
}

// Close ends what waits for a fault to pass, and is no matter to those who come too late.
func TestCloseEndsWhatStalls(t *testing.T) {
	s := registrytest.New(registrytest.Options{})
	require.NoError(t, s.Fault("", "", "**stallheaders"))
	var waiting sync.WaitGroup
	for range 40 {
		waiting.Go(func() {
			req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.URL+"/v2/", nil)
			assert.NoError(t, err)
			_, err = s.Client.Do(req)
			assert.Error(t, err)
		})
	}
	for len(s.Requests()) < 40 {
		time.Sleep(time.Millisecond)
	}
	s.Close()
	waiting.Wait()
	s.Close()
	_, err := s.Client.Get(s.URL)
	require.Error(t, err)
}

// flagsOfImports are the flags that there are before a test binary adds its own.
var flagsOfImports = func() (names []string) {
	flag.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return names
}()

// A main program gets no flags by the package.
func TestNoFlagsAreAdded(t *testing.T) { assert.Empty(t, flagsOfImports) }
