package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// counting passes requests on, counts the bytes of blobs that come and go, and calls cut once so many
// have moved.
type counting struct {
	next  http.Handler
	moved atomic.Int64
	limit int64
	cut   func()
}

func (c *counting) count(n int) {
	if moved := c.moved.Add(int64(n)); c.cut != nil && moved >= c.limit && moved-int64(n) < c.limit {
		c.cut()
	}
}

func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/blobs/") {
		w = &countingWriter{w, c}
		r.Body = &countingBody{r.Body, c}
	}
	c.next.ServeHTTP(w, r)
}

type countingWriter struct {
	http.ResponseWriter
	c *counting
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.c.count(n)
	return n, err
}

type countingBody struct {
	body interface {
		Read([]byte) (int, error)
		Close() error
	}
	c *counting
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.c.count(n)
	return n, err
}

func (b *countingBody) Close() error { return b.body.Close() }

// largeFiles are a model with blobs that are worth continuing.
func largeFiles(t *testing.T) (dir string, size int64) {
	t.Helper()
	made, m := makeModel(t, demoModel{size: 48 << 20, seed: 1})
	dir = tree(t, map[string]string{"config.json": "{}"})
	require.NoError(t, os.Rename(blobPath(made, m.Layers[0].Digest), filepath.Join(dir, "model.gguf")))
	return dir, 48 << 20
}

func TestAnInterruptedPullGoesOnInEachForm(t *testing.T) {
	made, size := largeFiles(t)
	s := startedServer(t)
	must(t, "push", made, s.url+"/me/model")
	for _, form := range []string{"files", "blobs", "oci", "ollama"} {
		t.Run(form, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			front := &counting{next: s.http.Handler, limit: size / 2, cut: cancel}
			server := httptest.NewServer(front)
			defer server.Close()
			pulled := t.TempDir()
			// One body at once, here and below: what is on its way in the buffers of many might be all that
			// has left the server, and idle workers take over what others have begun.
			r := runIn(ctx, noEnv, "pull", "--into", form, "--limit-rate", "60M", "--body-concurrency", "1",
				server.URL+"/me/model", pulled)
			require.Equal(t, exitInterrupted, r.code)
			assert.Contains(t, r.stderr, "interrupted; run the same command again to continue")

			before := front.moved.Load()
			r = must(t, "pull", "--into", form, "--body-concurrency", "1", server.URL+"/me/model", pulled)
			assert.Contains(t, r.stdout, "there already")
			// What had left the server and not arrived is sent again.
			assert.Less(t, front.moved.Load()-before, size*3/4, "only the rest is fetched")
			assert.Contains(t, must(t, "verify", pulled).stdout, "all right")
			if form == "files" {
				assert.Equal(t, filesOf(t, made), filesOf(t, pulled))
				left, err := filepath.Glob(filepath.Join(pulled, stateDir, "sha256-*"))
				require.NoError(t, err)
				assert.Empty(t, left)
			}
		})
	}
}

func TestAnInterruptedPushGoesOn(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	made, size := largeFiles(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := startedServer(t)
	front := &counting{next: s.http.Handler, limit: size / 2, cut: cancel}
	server := httptest.NewServer(front)
	defer server.Close()
	r := runIn(ctx, noEnv, "push", "--limit-rate", "60M", made, server.URL+"/me/model")
	require.Equal(t, exitInterrupted, r.code)
	before := front.moved.Load()
	r = must(t, "push", made, server.URL+"/me/model")
	assert.Less(t, front.moved.Load()-before, size*3/4, "only the rest is sent")
	assert.Regexp(t, `\([0-9.]+ MB there already\)`, r.stdout)
	pulled := t.TempDir()
	must(t, "pull", server.URL+"/me/model", pulled)
	assert.Equal(t, filesOf(t, made), filesOf(t, pulled))
}

func TestAPushLeavesNothingBehind(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	made := tree(t, someFiles)
	must(t, "push", made, startedServer(t).url+"/me/model")
	assert.Equal(
		t, exitFailed, runWith(t, "push", "--retry-timeout", "1ms", made, "localhost:1/me/model").code,
	)
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	for _, e := range left {
		assert.NotContains(t, e.Name(), "transfer-push")
	}
}

func TestServeEndsWhenItIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr lockedBuffer
	a := &app{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: noEnv}
	dir := t.TempDir()
	ended := make(chan int)
	go func() { ended <- a.run(ctx, []string{"serve", "--listen", "127.0.0.1:0", dir}) }()
	listening := func() bool { return strings.Contains(stdout.String(), "; Ctrl-C ends it") }
	require.Eventually(t, listening, 10*time.Second, 10*time.Millisecond)
	_, rest, _ := strings.Cut(stdout.String(), " at ")
	url, _, _ := strings.Cut(rest, ";")
	must(t, "push", tree(t, someFiles), url+"/me/model")
	cancel()
	assert.Equal(t, exitOK, <-ended)
	assert.Empty(t, stderr.String())
	_, err := http.Get(url)
	require.Error(t, err)
}

func TestServeSaysThatItServesOnlyWhenItDoes(t *testing.T) {
	file := filepath.Join(tree(t, map[string]string{"a": "b"}), "a")
	for name, args := range map[string][]string{
		"no certificate":        {"--tls-cert", file + "-none", "--tls-key", file, t.TempDir()},
		"a malformed one":       {"--tls-cert", file, "--tls-key", file, t.TempDir()},
		"a file":                {"--read-only", file},
		"nothing":               {"--read-only", file + "-missing"},
		"something else":        {"--read-only", filepath.Dir(file)},
		"something else, again": {filepath.Dir(file)},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			r := runIn(ctx, noEnv, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
			assert.Equal(t, exitFailed, r.code)
			assert.Empty(t, r.stdout)
			assert.Regexp(t, "^transfer: [^\n]+\n$", r.stderr)
		})
	}
}
