package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestADirectoryIsPushedAndPulled(t *testing.T) {
	made, _ := makeModel(t, demoModel{tensors: 8, size: 2_000_000, seed: 3})
	ref := startedServer(t).url + "/me/model:v1"
	r := runWith(t, "push", made, ref)
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Contains(t, r.stdout, "10 blobs")

	pulled := filepath.Join(t.TempDir(), "new", "dir")
	r = runWith(t, "pull", ref, pulled)
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Equal(t, contents(t, made), contents(t, pulled))

	r = runWith(t, "pull", ref, pulled, "--quiet")
	assert.Equal(t, result{code: exitOK}, r)
}

func TestADigestIsPushedAndPulled(t *testing.T) {
	made, _ := makeModel(t, demoModel{tensors: 1, seed: 4})
	data, err := os.ReadFile(filepath.Join(made, manifestName))
	require.NoError(t, err)
	repository := startedServer(t).url + "/me/model@"
	r := runWith(t, "push", made, repository+digest.FromBytes(data).String())
	require.Equal(t, exitOK, r.code, r.stderr)
	pulled := t.TempDir()
	r = runWith(t, "pull", repository+digest.FromBytes(data).String(), pulled)
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Equal(t, contents(t, made), contents(t, pulled))

	r = runWith(t, "push", made, repository+someDigest)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "does not match its digest")
	assert.Contains(t, r.stderr, filepath.Join(made, manifestName))
}

func TestAManifestThatCannotBeUsedIsNamed(t *testing.T) {
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		_, _ = io.WriteString(w, `{"schemaVersion":2,"layers":[{"digest":"sha256:../.."}]}`)
	}))
	defer front.Close()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, manifestName), []byte("{"), 0o600))
	for where, args := range map[string][]string{
		front.URL + "/me/model:v1":       {"pull", front.URL + "/me/model:v1", t.TempDir()},
		filepath.Join(dir, manifestName): {"push", dir, front.URL + "/me/model:v1"},
	} {
		r := runWith(t, args...)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.stderr, "transfer: "+strings.TrimPrefix(where, "http://")+": ")
		assert.Contains(t, r.stderr, "manifest")
	}
}

func TestARegistryWithBasicAuthenticationOnlyIsUsed(t *testing.T) {
	s := startedServer(t)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name == "me" && password == "hunter2" {
			s.http.Handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="me"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer front.Close()
	made, _ := makeModel(t, demoModel{tensors: 1, seed: 9})
	pulled := t.TempDir()
	name := front.URL + "/me/model"
	for _, args := range [][]string{{"push", made, name}, {"pull", name, pulled}} {
		r := runWith(t, args...)
		assert.Equal(t, exitFailed, r.code)
		host := strings.TrimPrefix(front.URL, "http://")
		assert.Contains(t, r.stderr, "hint: log in with: transfer login "+host)

		r = runIn(
			t.Context(),
			env(map[string]string{passwordVariable: "wrong"}),
			append(args, "--username", "me")...)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.stderr, "hint: check the name and the password of --username me")

		r = runIn(
			t.Context(),
			env(map[string]string{passwordVariable: "hunter2"}),
			append(args, "--username", "me")...)
		assert.Equal(t, exitOK, r.code, r.stderr)
	}
	assert.Equal(t, contents(t, made), contents(t, pulled))
}

func TestVerifyRepairsWhatIsWrong(t *testing.T) {
	made, m := makeModel(t, demoModel{tensors: 2, seed: 5})
	ref := startedServer(t).url + "/me/model"
	require.Equal(t, exitOK, runWith(t, "push", made, ref).code)
	pulled := t.TempDir()
	require.Equal(t, exitOK, runWith(t, "pull", ref, pulled).code)

	layer := m.Layers[0]
	require.NoError(t, os.WriteFile(blobPath(pulled, layer.Digest), make([]byte, layer.Size), 0o600))
	r := runWith(t, "pull", "--verify", ref, pulled)
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Equal(t, contents(t, made), contents(t, pulled))
}

func TestAMirrorIsAskedFirst(t *testing.T) {
	made, _ := makeModel(t, demoModel{tensors: 3, seed: 6})
	full, empty := startedServer(t), startedServer(t)
	require.Equal(t, exitOK, runWith(t, "push", made, full.url+"/me/model").code)
	pulled := t.TempDir()
	r := runWith(t, "pull", "--mirror", empty.url, "--mirror", full.url, full.url+"/me/model", pulled)
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Equal(t, contents(t, made), contents(t, pulled))
}

func TestPullAndPushLogIn(t *testing.T) {
	made, _ := makeModel(t, demoModel{tensors: 2, seed: 7})
	guarded := guard(t, startedServer(t))
	getenv := env(map[string]string{passwordVariable: "hunter2"})
	r := runIn(t.Context(), getenv, "push", "--username", "me", "--verbose", made, guarded+"/me/model")
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.NotContains(t, r.stderr, "opaque-token")
	assert.NotContains(t, r.stderr, "hunter2")

	pulled := t.TempDir()
	r = runIn(t.Context(), getenv, "pull", "--username", "me", guarded+"/me/model", pulled)
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Equal(t, contents(t, made), contents(t, pulled))

	r = runWith(t, "pull", guarded+"/me/model", t.TempDir())
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "hint: log in with: transfer login ")
}

// guard puts a token server in front of a registry, for the user me with the
// password hunter2.
func guard(t *testing.T, s *server) string {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		switch {
		case r.URL.Path == "/token" && password == "hunter2":
			_, _ = io.WriteString(w, `{"token":"opaque-token"}`)
		case r.URL.Path == "/token":
			w.WriteHeader(http.StatusUnauthorized)
		case r.Header.Get("Authorization") == "Bearer opaque-token":
			s.http.Handler.ServeHTTP(w, r)
		default:
			const scope = `service="test",scope="repository:me/model:pull,push"`
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",`+scope)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(front.Close)
	return front.URL
}

func TestNothingIsWrittenForAModelThatIsNotThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	r := runWith(t, "pull", startedServer(t).url+"/me/model", dir)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "404")
	assert.NoDirExists(t, dir)
}

func putManifest(t *testing.T, base, name, mediaType, manifest string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, base+"/manifests/"+name, strings.NewReader(manifest))
	require.NoError(t, err)
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusCreated, resp.StatusCode)
}

// pushIndex pushes two models, and an index of them as the tag latest.
func pushIndex(t *testing.T, s *server, repository string) {
	t.Helper()
	ref := s.url + "/" + repository
	var listed []string
	for i, platform := range []string{"arm64", "amd64"} {
		made, _ := makeModel(t, demoModel{tensors: 1, seed: uint64(i)})
		require.Equal(t, exitOK, runWith(t, "push", made, ref+":"+platform).code)
		data, err := os.ReadFile(filepath.Join(made, manifestName))
		require.NoError(t, err)
		listed = append(
			listed,
			fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":%q}}`,
				dockerManifest, digest.FromBytes(data), len(data), platform),
		)
	}
	putManifest(
		t,
		s.url+"/v2/"+repository,
		"latest",
		ocispec.MediaTypeImageIndex,
		`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[`+strings.Join(
			listed,
			",",
		)+`]}`,
	)
}

func TestAnIndexNeedsAChoice(t *testing.T) {
	s := startedServer(t)
	ref := s.url + "/me/model"
	pushIndex(t, s, "me/model")
	r := runWith(t, "pull", ref, t.TempDir())
	assert.Equal(t, exitFailed, r.code)
	const choice = "choose with --platform linux/arm64, linux/amd64"
	assert.Contains(t, r.stderr, "it is an index of 2 manifests; "+choice+"\n")
	r = runWith(t, "pull", "--platform", "linux/s390x", ref, t.TempDir())
	assert.Contains(t, r.stderr, "none of them for linux/s390x; "+choice)
	chosen, direct := t.TempDir(), t.TempDir()
	r = runWith(t, "pull", "--platform", "linux/amd64", ref, chosen)
	require.Equal(t, exitOK, r.code, r.stderr)
	index := digest.FromString(must(t, "inspect", "--raw", ref).stdout)
	assert.Contains(t, r.stdout, "digest "+index.String(), "of what the reference names")
	require.Equal(t, exitOK, runWith(t, "pull", ref+":amd64", direct).code)
	assert.Equal(t, contents(t, direct), contents(t, chosen))
}

func TestTheManifestComesLast(t *testing.T) {
	made, _ := makeModel(t, demoModel{tensors: 3, seed: 8})
	s := startedServer(t)
	require.Equal(t, exitOK, runWith(t, "push", made, s.url+"/me/model").code)
	ctx, cancel := context.WithCancel(t.Context())
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			cancel()
			<-r.Context().Done()
			return
		}
		s.http.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	pulled := t.TempDir()
	r := runIn(ctx, noEnv, "pull", front.URL+"/me/model", pulled)
	assert.Equal(t, exitInterrupted, r.code)
	assert.True(
		t, strings.HasSuffix(r.stderr, "transfer: interrupted; run the same command again to continue\n"),
		r.stderr,
	)
	assert.NoFileExists(t, filepath.Join(pulled, manifestName))
}

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
