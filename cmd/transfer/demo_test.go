package main

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/modeltransfer/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheDemoMovesAModelThereAndBack(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	r := runWith(t, "demo", "--size", "3M", "--tensors", "5")
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Contains(t, r.stdout, "pushed 7 blobs")
	assert.Contains(t, r.stdout, "pulled 7 blobs")
	assert.Contains(t, r.stdout, "compared every byte of 7 files")
	assert.Contains(t, r.stdout, "were removed")
	assert.Contains(t, r.stderr, "push 100 %")
	assert.Contains(t, r.stderr, "pull 100 %")
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestTheDemoLeavesTheFilesInDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	args := []string{"demo", "--dir", dir, "--size", "1M", "--tensors", "2"}
	r := runWith(t, args...)
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Equal(t, contents(t, filepath.Join(dir, "model")), contents(t, filepath.Join(dir, "pulled")))

	again := runWith(t, args...)
	require.Equal(t, exitOK, again.code, again.stderr)
	assert.Regexp(t, `(?m)^pulled .* all there already$`, again.stdout)
}

func TestTheDemoIsQuietWhenAsked(t *testing.T) {
	r := runWith(t, "demo", "--dir", t.TempDir(), "--size", "0", "--tensors", "1", "--quiet")
	assert.Equal(t, result{code: exitOK}, r)
}

func TestTheDemoTellsProgramsThatAllIsTheSame(t *testing.T) {
	r := must(t, "demo", "--size", "0", "--tensors", "1", "--json")
	assert.Regexp(t, `\{"event":"compared","reference":"[^"]+","digest":"sha256:[^"]+","blobs":2,`, r.stdout)
}

func TestTheDemoUsesAnotherRegistry(t *testing.T) {
	s := startedServer(t)
	r := runWith(t, "demo", "--registry", s.url, "--repository", "me/model", "--size", "0", "--tensors", "2")
	require.Equal(t, exitOK, r.code, r.stderr)
	assert.Contains(t, r.stdout, strings.TrimPrefix(s.url, "http://")+"/me/model:latest")
	resp, err := http.Get(s.url + "/v2/me/model/manifests/latest")
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestARegistryIsAURLOrAHost(t *testing.T) {
	for registry, want := range map[string]string{
		"http://127.0.0.1:5000":       "http://127.0.0.1:5000/demo/tensors:latest",
		"https://registry.example/":   "https://registry.example/demo/tensors:latest",
		"https://registry.example/me": "https://registry.example/me/demo/tensors:latest",
		"registry.example":            "https://registry.example/demo/tensors:latest",
		"localhost":                   "http://localhost/demo/tensors:latest",
		"myhost:5000":                 "https://myhost:5000/demo/tensors:latest",
	} {
		ref, err := demoReference(registry, defaultDemoRepository)
		require.NoError(t, err, registry)
		assert.Equal(t, want, ref.URL())
	}
	for _, registry := range []string{"myhost", "me/too", "/"} {
		_, err := demoReference(registry, defaultDemoRepository)
		require.ErrorContains(t, err, "neither a URL nor a host", registry)
	}
}

func TestALackOfSpaceSaysWhatToDo(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}
	for _, err := range []error{full, transfer.ErrInsufficientSpace} {
		told := moreSpace(err)
		require.ErrorIs(t, told, err)
		assert.Contains(t, told.Error(), "TMPDIR")
	}
	assert.Equal(t, fs.ErrNotExist, moreSpace(fs.ErrNotExist))
	assert.NoError(t, moreSpace(nil))
}

func startedServer(t *testing.T) *server {
	t.Helper()
	s, err := startServer(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(s.close)
	return s
}

// contents are the blobs and the manifest of a directory, by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		ours := path == manifestName || strings.HasPrefix(path, "sha256-")
		if err != nil || !d.Type().IsRegular() || !ours {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(data)
		return err
	}))
	return files
}

func TestAServerThatIsClosedAnswersNothing(t *testing.T) {
	s := startedServer(t)
	s.close()
	_, err := http.Get(s.url + "/v2/")
	require.Error(t, err)
}

func TestABlobThatIsNotThereIsA404(t *testing.T) {
	s := startedServer(t)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		req, err := http.NewRequest(method, s.url+"/v2/me/model/blobs/"+someDigest, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusNotFound, resp.StatusCode, method)
	}
}
