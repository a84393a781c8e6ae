//go:build unix

package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// prepared is a round with a directory that somebody else has packed, with links, pipes and files where
// commands look. Whatever is done with it, nothing outside is changed, or read and sent, and all ends.
func (h *hostile) prepared() {
	h.bare = true
	git := filepath.Join(h.dir, ".git", "config")
	require.NoError(h.t, os.MkdirAll(filepath.Dir(git), 0o755))
	require.NoError(h.t, os.WriteFile(git, []byte(secret), 0o644))
	if h.r.IntN(2) == 0 { // or what is planted seldom fits together
		h.pull(h.reg.ref(h.honest), h.pick("files", "blobs", "oci", "ollama"))
	}
	if h.r.IntN(2) == 0 {
		target := h.pick(".git/config", ".transfer/record.json", filepath.Join(h.world, "victim"))
		require.NoError(h.t, os.Symlink(target, filepath.Join(h.dir, "weights.bin")))
	}
	for range h.r.IntN(6) {
		h.plant()
	}
	m := h.model()
	for range 1 + h.r.IntN(4) {
		switch h.r.IntN(6) {
		case 0:
			h.run("verify", h.dir)
		case 1:
			h.run("verify", h.dir, "--from", h.reg.ref(h.honest))
		case 2:
			h.run("prune", h.dir)
		case 3:
			h.run("push", h.dir, h.reg.url+"/pushed/model:v1")
		case 4:
			h.pull(h.reg.ref(m), h.pick("auto", "files", "blobs", "oci", "ollama"))
		default:
			h.serve()
		}
	}
}

// plant puts something under a name that means something to a command.
func (h *hostile) plant() {
	hex := digest.Digest(h.blobOf(h.pick("a", "d/a", "LICENSE"))).Encoded()
	own := digest.Digest(h.honest.Digest).Encoded()
	name := filepath.Join(h.dir, filepath.FromSlash(h.pick(
		".transfer", ".transfer/record.json", ".transfer/lock", ".transfer/sha256-"+hex, "manifest.json",
		"sha256-"+hex, "sha256-"+hex+".partial", "sha256-"+hex+".journal", "index.json", "oci-layout",
		"blobs", "blobs/sha256", "blobs/sha256/"+hex, "blobs/sha256/"+own, "blobs/sha256-"+hex, "manifests",
		"manifests/h", "manifests/h/n/m/t", "a", "d", "d/a", "LICENSE", ".git/config", "uploads", "lock",
		"uploads/"+strings.Repeat("0", 32), "repositories", "repositories/a/_tags/v1",
		"repositories/a/_manifests/sha256-"+own,
	)))
	if os.MkdirAll(filepath.Dir(name), 0o755) != nil {
		return // something else is in its place
	}
	_ = os.Remove(name)
	pipe := filepath.Join(h.dir, "pipe")
	switch h.r.IntN(8) {
	case 0:
		_ = os.Symlink(filepath.Join(h.world, h.pick("victim", "a/victim", "nothing")), name)
	case 1:
		_ = os.Symlink(pipe, name)
	case 2:
		_ = syscall.Mkfifo(name, 0o600)
	case 3:
		_ = os.Mkdir(name, 0o755)
	case 4:
		_ = os.Symlink(h.pick("d", "sha256", ".git/config", "../.git/config", filepath.Base(name)), name)
	case 5:
		_ = os.WriteFile(name, h.honest.Data, 0o644)
	default:
		_ = os.WriteFile(name, []byte(h.content()), 0o644)
	}
	_ = syscall.Mkfifo(pipe, 0o600)
}

// serve serves the directory for a few requests.
func (h *hostile) serve() {
	h.steps = append(h.steps, "serve")
	s, err := startServer(h.dir)
	if err != nil {
		return
	}
	defer s.close()
	client := http.Client{Timeout: 20 * time.Second}
	for _, path := range []string{
		"_catalog", "a/tags/list", "a/manifests/v1", "a/manifests/" + h.honest.Digest,
		"a/referrers/" + h.honest.Digest, "a/blobs/" + h.honest.Digest, "a/blobs/" + h.blobOf("LICENSE"),
		"a/blobs/" + h.blobOf("a"), "a/blobs/uploads/" + strings.Repeat("0", 32),
	} {
		resp, err := client.Get(s.url + "/v2/" + path)
		h.must(err == nil, "%s: %v", path, err)
		data, err := io.ReadAll(resp.Body)
		require.NoError(h.t, err)
		require.NoError(h.t, resp.Body.Close())
		h.must(!strings.Contains(string(data), secret), "%s is what is outside", path)
	}
}
