package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pulledEvent is what a pull with --json says at its end.
func pulledEvent(t *testing.T, stdout string) (e struct{ Bytes, There, Moved int64 }) {
	t.Helper()
	for line := range strings.Lines(stdout) {
		if strings.HasPrefix(line, `{"event":"pulled"`) {
			require.NoError(t, json.Unmarshal([]byte(line), &e))
		}
	}
	return e
}

func TestL3TwoPullsIntoOneDirectoryFetchOnce(t *testing.T) {
	made, size := largeFiles(t)
	s := startedServer(t)
	must(t, "push", made, s.url+"/me/model")
	for _, form := range []string{"files", "blobs", "oci", "ollama"} {
		t.Run(form, func(t *testing.T) {
			front, begun := &counting{next: s.http.Handler, limit: 1 << 20}, make(chan struct{})
			front.cut = func() { close(begun) }
			server := httptest.NewServer(front)
			defer server.Close()
			dir, first := t.TempDir(), make(chan result)
			pull := []string{
				"pull", "--json", "--into", form, "--limit-rate", "60M", "--body-concurrency", "1",
				server.URL + "/me/model", dir,
			}
			go func() { first <- runIn(t.Context(), noEnv, pull...) }()
			<-begun
			second := must(t, pull...)
			assert.Contains(t, second.stdout, "waiting for another command that writes to ")
			other := <-first
			require.Equal(t, exitOK, other.code, other.stderr)

			assert.Less(t, front.moved.Load(), size+size/4, "it was fetched once")
			assert.Zero(t, pulledEvent(t, second.stdout).Moved, "who has waited has moved nothing")
			assert.GreaterOrEqual(t, pulledEvent(t, other.stdout).Moved, size)
			assert.Contains(t, must(t, "verify", dir).stdout, "all right")
			assert.NoFileExists(t, filepath.Join(dir, stateDir, "lock"))
		})
	}
}

func TestL3APullThatWaitsCanBeInterrupted(t *testing.T) {
	made, _ := largeFiles(t)
	s := startedServer(t)
	must(t, "push", made, s.url+"/me/model")
	dir, held, release := t.TempDir(), make(chan struct{}), make(chan struct{})
	defer close(release)
	go func() {
		_, _ = model.Pull(context.WithoutCancel(t.Context()), s.url+"/me/model", dir, model.PullOptions{
			Options: model.Options{Begin: func(model.Result) { close(held); <-release }},
		})
	}()
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	stderr := &cancelling{cancel: cancel}
	waiting := &app{stdin: strings.NewReader(""), stdout: new(lockedBuffer), stderr: stderr, getenv: noEnv}
	assert.Equal(t, exitInterrupted, waiting.run(ctx, []string{"pull", s.url + "/me/model", dir}))
	assert.Contains(t, stderr.String(), "waiting for another command that writes to "+dir)
}

// cancelling cancels when something is written.
type cancelling struct {
	lockedBuffer
	cancel func()
}

func (c *cancelling) Write(p []byte) (int, error) {
	defer c.cancel()
	return c.lockedBuffer.Write(p)
}

// interrupted pulls a large model into a form until half of it has come.
func interrupted(t *testing.T, form string) (ref, dir string) {
	t.Helper()
	made, size := largeFiles(t)
	s := startedServer(t)
	must(t, "push", made, s.url+"/me/model")
	ctx, cancel := context.WithCancel(t.Context())
	front := &counting{next: s.http.Handler, limit: size / 2, cut: cancel}
	server := httptest.NewServer(front)
	t.Cleanup(server.Close)
	dir = t.TempDir()
	r := runIn(ctx, noEnv, "pull", "--into", form, "--limit-rate", "60M", server.URL+"/me/model", dir)
	require.Equal(t, exitInterrupted, r.code)
	return server.URL + "/me/model", dir
}

func TestL3PruneAndVerifyKnowAnInterruptedFirstPull(t *testing.T) {
	for _, form := range []string{"files", "blobs", "oci", "ollama"} {
		t.Run(form, func(t *testing.T) {
			ref, dir := interrupted(t, form)
			r := runWith(t, "verify", dir)
			assert.Equal(t, exitFailed, r.code)
			const state = "a pull into it was interrupted, and no model is whole yet; run the same"
			assert.Contains(t, r.stderr, dir+": "+state)
			before := partialsOf(t, dir)
			require.NotEmpty(t, before)
			r = must(t, "prune", "--dry-run", dir)
			assert.Contains(t, r.stdout, "would remove ")
			assert.Equal(t, before, partialsOf(t, dir))

			must(t, "prune", dir)
			assert.Empty(t, partialsOf(t, dir))
			assert.Regexp(t, "removed 0 files|is empty", must(t, "prune", dir).stdout)
			must(t, "pull", "--into", form, ref, dir)
			assert.Contains(t, must(t, "verify", dir).stdout, "all right")
		})
	}
}

func TestL3WholeBlobsWithoutAManifestStay(t *testing.T) {
	_, dirs := forms(t)
	for form, remove := range map[string]string{
		"blobs": manifestName, "oci": "index.json", "ollama": "manifests",
	} {
		t.Run(form, func(t *testing.T) {
			dir := dirs[form]
			require.NoError(t, os.RemoveAll(filepath.Join(dir, remove)))
			before := filesOf(t, dir)
			r := must(t, "prune", dir)
			assert.Contains(t, r.stdout, "there is no manifest yet that says which are needed")
			assert.Equal(t, before, filesOf(t, dir))
			r = runWith(t, "verify", dir)
			assert.Equal(t, exitFailed, r.code)
			const advice = `run the same pull again \(\d whole blobs, .*, hashed and right\)`
			assert.Regexp(t, "no model is whole yet; "+advice, r.stderr)
			path := largest(t, dir)
			require.NoError(t, os.WriteFile(path, make([]byte, len(before[relative(t, dir, path)])), 0o600))
			r = runWith(t, "verify", dir)
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stdout, "its content does not match its digest")
			assert.Contains(t, r.stderr, "run the same pull again with --verify: 1 of ")
		})
	}
}

// What waits for its place has come whole too.
func TestL3WholeBlobsThatHaveNoPlaceYetStay(t *testing.T) {
	whole := digest.FromString("whole").Encoded()
	for form, files := range map[string]map[string]string{
		"files": {}, "oci": {"oci-layout": `{"imageLayoutVersion":"1.0.0"}`},
	} {
		t.Run(form, func(t *testing.T) {
			files[stateDir+"/sha256-"+whole] = "whole"
			files[stateDir+"/sha256-"+digest.FromString("part").Encoded()+".partial"] = "part"
			dir := tree(t, files)
			assert.Contains(t, runWith(t, "verify", dir).stderr, "(1 whole blob, 5 B, hashed and right)")
			r := must(t, "prune", dir)
			assert.Contains(t, r.stdout, "removed 1 file, ")
			assert.Contains(t, r.stdout, "kept 1 whole blob: ")
			assert.FileExists(t, filepath.Join(dir, stateDir, "sha256-"+whole))
			assert.Empty(t, partialsOf(t, dir))
		})
	}
}

func relative(t *testing.T, dir, path string) string {
	t.Helper()
	name, err := filepath.Rel(dir, path)
	require.NoError(t, err)
	return filepath.ToSlash(name)
}

// partialsOf are the files of blobs that are not whole, with their journals.
func partialsOf(t *testing.T, dir string) (found []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), ".partial") {
			found = append(found, path)
		}
		return err
	}))
	return found
}

// Two models of one Ollama directory share a blob: who has waited for it has not moved it.
func TestL3WhatAnotherPullHasBroughtIsNotMoved(t *testing.T) {
	large := strings.Repeat("weights ", 500_000)
	s := startedServer(t)
	for tag, own := range map[string]string{"v1": "first", "v2": "the second"} {
		must(t, "push", tree(t, map[string]string{"a.bin": large, "own": own}), s.url+"/me/model:"+tag)
	}
	shared := "/blobs/" + digest.FromString(large).String()
	begun, waited := make(chan struct{}), make(chan struct{})
	first, once := sync.OnceFunc(func() { close(begun) }), sync.OnceFunc(func() { close(waited) })
	front := fronted(t, s, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, shared) {
			first()
			<-waited
		}
		return false
	})
	dir, results := t.TempDir(), make(chan model.Result)
	go func() {
		r, err := model.Pull(t.Context(), front+"/me/model:v1", dir, model.PullOptions{Form: model.Ollama})
		assert.NoError(t, err)
		results <- r
	}()
	<-begun
	o := model.PullOptions{Form: model.Ollama}
	o.Trace = &transfer.Trace{Waiting: func(transfer.WaitInfo) { once() }}
	second, err := model.Pull(t.Context(), front+"/me/model:v2", dir, o)
	require.NoError(t, err)
	r := <-results
	assert.Less(t, second.Moved, int64(len(large)))
	assert.Equal(t, second.Bytes, second.There+second.Moved)
	assert.GreaterOrEqual(t, r.Moved, int64(len(large)))
}
