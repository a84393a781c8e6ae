package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCopyLeavesAloneWhatElseIsInItsDirectory(t *testing.T) {
	made, from := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, from)
	to, dir := startedServer(t).url+"/you/model:v1", tree(t, map[string]string{"mine": "kept"})
	for range 2 { // the second time nothing is missing
		must(t, "copy", "--dir", dir, from, to)
		assert.Equal(t, map[string]string{"mine": "kept"}, filesOf(t, dir))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Len(t, entries, 1, "nothing of the copy is left")
	}
}

// Two copies of one model to two places must not remove each other's blobs.
func TestEachTargetOfACopyHasADirectoryOfItsOwn(t *testing.T) {
	made, from := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, from)
	dir, places := t.TempDir(), map[string]bool{}
	for _, tag := range []string{"v1", "v2"} {
		front := refusing(t, startedServer(t), http.MethodPost)
		r := runWith(t, "copy", "--dir", dir, from, front+"/you/model:"+tag)
		require.Equal(t, exitFailed, r.code)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			places[filepath.Join(dir, e.Name())] = e.IsDir()
		}
	}
	assert.Len(t, places, 2)
}

func TestTheHintOfACopyIsAboutTheRegistryThatRefuses(t *testing.T) {
	made, source := tree(t, someFiles), startedServer(t)
	must(t, "push", made, source.url+"/me/model:v1")
	target := startedServer(t)
	must(t, "push", made, target.url+"/you/model:v1") // so that only the manifest is refused
	front := refusing(t, target, http.MethodPut)
	r := runWith(t, "copy", "--dir", t.TempDir(), source.url+"/me/model:v1", front+"/you/model:v2")
	require.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "transfer login "+strings.TrimPrefix(front, "http://"))
}

// The password of --username is the target's: the source may be anybody's.
func TestACopySendsItsPasswordToTheTargetAlone(t *testing.T) {
	var sent atomic.Int32
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			sent.Add(1)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer source.Close()
	made, guarded := tree(t, someFiles), guard(t, startedServer(t))
	login := env(map[string]string{passwordVariable: "hunter2"})
	run := func(args ...string) result {
		return runIn(t.Context(), login, append(args, "--username", "me")...)
	}
	r := run("copy", source.URL+"/you/model:v1", guarded+"/me/model:v1")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "hint: log in with: transfer login "+strings.TrimPrefix(source.URL, "http://"))
	assert.Zero(t, sent.Load())

	require.Equal(t, exitOK, run("push", made, guarded+"/me/model:v1").code)
	r = run("copy", "--dir", t.TempDir(), guarded+"/me/model:v1", guarded+"/me/model:v2")
	assert.Equal(t, exitOK, r.code, "within one registry it is that of both: %s", r.stderr)
}

// refusing puts a front before a server that answers 403 to a method.
func refusing(t *testing.T, s *server, method string) string {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		s.http.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}
