//go:build unix

package serve_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modeltransfer/transfer/model/serve"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Who else may write to the directory plants links to what is ours alone, and pipes.
func TestH8WhatAnotherUserHasPutIntoADirectoryIsNotServed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of somebody else")
	}
	dir := t.TempDir()
	base, stop := run(t, dir, serve.Options{})
	defer stop()
	dg := put(t, base, "{}")
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	blobs, repository := filepath.Join(dir, "blobs", "sha256"), filepath.Join(dir, "repositories", "a")
	foreign := digest.FromString("foreign").Encoded()
	require.NoError(t, os.Symlink(victim, filepath.Join(blobs, foreign)))
	require.NoError(t, os.Lchown(filepath.Join(blobs, foreign), 12345, 12345))
	pipe := digest.FromString("pipe").Encoded()
	require.NoError(t, syscall.Mkfifo(filepath.Join(blobs, pipe), 0o666))
	require.NoError(t, os.MkdirAll(filepath.Join(repository, "_tags"), 0o777))
	require.NoError(t, syscall.Mkfifo(filepath.Join(repository, "_tags", "v1"), 0o666))
	own, elsewhere := digest.FromString("own").Encoded(), filepath.Join(t.TempDir(), "own")
	require.NoError(t, os.WriteFile(elsewhere, []byte("own"), 0o600))
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(blobs, own)))
	client := http.Client{Timeout: 20 * time.Second}
	for path, want := range map[string]int{
		"blobs/sha256:" + foreign: 404, "blobs/sha256:" + pipe: 404, "manifests/v1": 404, "tags/list": 200,
		"blobs/sha256:" + own: 200, "blobs/" + dg.String(): 200,
	} {
		resp, err := client.Get(base + "/v2/a/" + path)
		require.NoError(t, err, path)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, want, resp.StatusCode, path)
	}
	for name, plant := range map[string]func(path string) error{
		"a link": func(path string) error { return os.Symlink(victim, path) },
		"a pipe": func(path string) error { return syscall.Mkfifo(path, 0o666) },
		"a file": func(path string) error { return os.WriteFile(path, []byte("precious"), 0o666) },
	} {
		id := strings.Repeat("0", 32)
		path := filepath.Join(dir, "uploads", id)
		require.NoError(t, plant(path))
		require.NoError(t, os.Lchown(path, 12345, 12345))
		session := base + "/v2/a/blobs/uploads/" + id
		req, err := http.NewRequest(http.MethodPatch, session, strings.NewReader("evil"))
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err, name)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, 404, resp.StatusCode, name)
		require.NoError(t, os.Remove(path))
	}
	began, _ := call(t, "POST", base+"/v2/a/blobs/uploads/", "")
	require.Equal(t, 202, began.StatusCode)
	at := began.Header.Get("Location")
	path := filepath.Join(dir, "uploads", filepath.Base(at))
	require.NoError(t, os.Remove(path))
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	require.NoError(t, os.Symlink(empty, path)) // while the upload is known
	patched, _ := call(t, "PATCH", base+at, "evil")
	assert.Equal(t, 404, patched.StatusCode)
	data, err := os.ReadFile(empty)
	require.NoError(t, err)
	assert.Empty(t, data, "nothing is written through a link")
}

// Who has made the directory that is served may have made links in it to any file of this machine.
func TestH12ALinkedBlobIsHashedBeforeItIsServed(t *testing.T) {
	dir := t.TempDir()
	base := start(t, dir, false)
	text := manifestOf(put(t, base, "{}"), 2)
	_, _ = putManifest(t, base, "v1", text)
	good, bad := digest.FromString("good"), digest.FromString("something else")
	blobs, file := filepath.Join(dir, "blobs", "sha256"), filepath.Join(dir, "file")
	outside := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(outside, []byte("good"), 0o600))
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(blobs, good.Encoded())))
	require.NoError(t, os.Symlink(file, filepath.Join(blobs, bad.Encoded())))
	for range 2 {
		resp, body := call(t, "GET", base+"/v2/me/model/blobs/"+good.String(), "", "Range", "bytes=1-2")
		assert.Equal(t, 206, resp.StatusCode)
		assert.Equal(t, "oo", body)
		for _, method := range []string{"GET", "HEAD"} {
			resp, body := call(t, method, base+"/v2/me/model/blobs/"+bad.String(), "")
			assert.Equal(t, 404, resp.StatusCode)
			assert.NotContains(t, body, "precious")
		}
	}
	require.NoError(t, os.WriteFile(outside, []byte("precious"), 0o600))
	resp, _ := call(t, "GET", base+"/v2/me/model/blobs/"+good.String(), "")
	assert.Equal(t, 404, resp.StatusCode, "it has changed since")
	url := base + "/v2/me/model/manifests/v2"
	resp, body := call(t, "PUT", url, manifestOf(bad, 14), "Content-Type", manifestType)
	assert.Equal(t, 400, resp.StatusCode, "its blob is not there: %s", body)

	manifest := filepath.Join(blobs, digest.FromString(text).Encoded())
	require.NoError(t, os.Remove(manifest))
	require.NoError(t, os.Symlink(file, manifest))
	for _, version := range []string{"v1", digest.FromString(text).String()} {
		resp, body := call(t, "GET", base+"/v2/me/model/manifests/"+version, "")
		assert.Equal(t, 500, resp.StatusCode)
		assert.NotContains(t, body, "precious")
	}
}

func TestH8NothingIsWrittenBehindALinkOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of somebody else")
	}
	for _, place := range []string{
		"blobs", "blobs/sha256", "uploads", "repositories/me", "repositories/me/model/_tags",
	} {
		dir, victim := t.TempDir(), t.TempDir()
		base, stop := run(t, dir, serve.Options{})
		text := manifestOf(put(t, base, "{}"), 2)
		name := filepath.Join(dir, filepath.FromSlash(place))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o777))
		require.NoError(t, os.RemoveAll(name))
		require.NoError(t, os.Symlink(victim, name))
		require.NoError(t, os.Lchown(name, 12345, 12345))
		for _, request := range [][2]string{
			{"PUT", "manifests/v1"}, {"DELETE", "manifests/v1"}, {"GET", "manifests/v1"},
			{"POST", "blobs/uploads/"}, {"POST", "blobs/uploads/?digest=" + digest.FromString(text).String()},
		} {
			path := base + "/v2/me/model/" + request[1]
			resp, _ := call(t, request[0], path, text, "Content-Type", manifestType)
			assert.Equal(t, 500, resp.StatusCode, "%s %s", place, request)
		}
		stop()
		entries, err := os.ReadDir(victim)
		require.NoError(t, err)
		assert.Empty(t, entries, place)
		if !strings.Contains(place, "me") {
			_, err = serve.Open(dir, serve.Options{})
			require.ErrorIs(t, err, os.ErrPermission, place)
		}
	}
}

func TestH10PipesInThePlaceOfDirectoriesHoldNoRequest(t *testing.T) {
	for _, place := range []string{"blobs", "blobs/sha256", "uploads", "repositories/me/model/_tags"} {
		for _, behind := range []bool{false, true} {
			dir := t.TempDir()
			base, stop := run(t, dir, serve.Options{})
			text := manifestOf(put(t, base, "{}"), 2)
			_, _ = putManifest(t, base, "v1", text)
			name := filepath.Join(dir, filepath.FromSlash(place))
			require.NoError(t, os.RemoveAll(name))
			pipe := name
			if behind {
				pipe = filepath.Join(t.TempDir(), "pipe")
				require.NoError(t, os.Symlink(pipe, name))
			}
			require.NoError(t, syscall.Mkfifo(pipe, 0o600))
			client := http.Client{Timeout: 20 * time.Second}
			blob := "blobs/" + digest.FromString("{}").String()
			for _, path := range []string{"manifests/v1", "tags/list", blob} {
				resp, err := client.Get(base + "/v2/me/model/" + path)
				require.NoError(t, err, "%s with a pipe for %s", path, place)
				require.NoError(t, resp.Body.Close())
			}
			resp, err := client.Post(base+"/v2/me/model/blobs/uploads/", "", nil)
			require.NoError(t, err, place)
			require.NoError(t, resp.Body.Close())
			stop()
		}
	}
}

func TestH1ServeSweepsNothingThatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"repositories", "uploads"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o777))
	}
	old := time.Now().Add(-30 * 24 * time.Hour)
	ours := filepath.Join(dir, "uploads", strings.Repeat("0", 32))
	theirs := filepath.Join(dir, "uploads", "photo.jpg")
	for _, path := range []string{ours, theirs} {
		require.NoError(t, os.WriteFile(path, nil, 0o666))
		require.NoError(t, os.Chtimes(path, old, old))
	}
	_, stop := run(t, dir, serve.Options{})
	defer stop()
	assert.NoFileExists(t, ours)
	assert.FileExists(t, theirs)
}

// A file system that knows no case takes _Tags for _tags.
func TestH1NoRepositoryHasTheNameOfADirectoryOfServe(t *testing.T) {
	base, stop := run(t, t.TempDir(), serve.Options{})
	defer stop()
	for _, name := range []string{"_tags", "_Tags", "a/_MANIFESTS", "a/_tags/b"} {
		answer, _ := call(t, "GET", base+"/v2/"+name+"/tags/list", "")
		assert.Equal(t, 400, answer.StatusCode, name)
	}
}
