package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// toolchainEnv is the environment for the Go toolchain: its own cache is not where TestMain keeps that of the
// library.
func toolchainEnv() []string {
	return slices.DeleteFunc(append(os.Environ(), "GOWORK=off"), func(v string) bool {
		return strings.HasPrefix(v, "XDG_CACHE_HOME=")
	})
}

// Programs of others that go.mod pins as tools. The toolchain builds them, once for all runs.
var (
	buildOras   = sync.OnceValues(func() (string, error) { return buildTool("oras") })
	buildCrane  = sync.OnceValues(func() (string, error) { return buildTool("crane") })
	buildRegctl = sync.OnceValues(func() (string, error) { return buildTool("regctl") })
)

// buildTool returns the path of a tool in the toolchain's cache.
func buildTool(name string) (string, error) {
	cmd := exec.Command("go", "tool", "-n", name)
	cmd.Env, cmd.Stderr = toolchainEnv(), os.Stderr
	path, err := cmd.Output()
	return strings.TrimSpace(string(path)), err
}

// tools are the programs of others, run by a person who has logged in with the command line program: they
// find the credentials where that has put them.
type tools struct {
	home string
	host string // of the registry
}

// run runs a program in a directory and returns what it has written.
func (p tools) run(t *testing.T, build func() (string, error), dir string, args ...string) string {
	t.Helper()
	program, err := build()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"HOME="+p.home, "DOCKER_CONFIG=", "XDG_RUNTIME_DIR=", "REGISTRY_AUTH_FILE=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "%s %v: %s", program, args, &out)
	return out.String()
}

// carrier is how a program moves what a reference names between a registry and an OCI layout.
type carrier struct {
	build       func() (string, error)
	fetch, send func(ref, layout string) []string
}

// carriers are all programs that can. A layout has one model, of the tag v1.
func (p tools) carriers(t *testing.T) map[string]carrier {
	t.Helper()
	skopeo := func() (string, error) { return program(t, "skopeo"), nil }
	skopeoCopy := []string{
		"copy", "--quiet", "--all", "--preserve-digests", "--insecure-policy", "--src-tls-verify=false",
		"--dest-tls-verify=false",
	}
	regctl := func(from, to string) []string {
		return []string{"--host", "reg=" + p.host + ",tls=disabled", "image", "copy", from, to}
	}
	return map[string]carrier{
		"oras": {
			build: buildOras,
			fetch: func(ref, layout string) []string {
				return []string{"copy", "--from-plain-http", ref, "--to-oci-layout", layout + ":v1"}
			},
			send: func(ref, layout string) []string {
				return []string{"copy", "--from-oci-layout", layout + ":v1", "--to-plain-http", ref}
			},
		},
		"crane": {
			build: buildCrane,
			fetch: func(ref, layout string) []string {
				return []string{"pull", "--format", "oci", ref, layout}
			},
			send: func(ref, layout string) []string { return []string{"push", layout, ref} },
		},
		"regctl": {
			build: buildRegctl,
			fetch: func(ref, layout string) []string { return regctl(ref, "ocidir://"+layout+":v1") },
			send:  func(ref, layout string) []string { return regctl("ocidir://"+layout+":v1", ref) },
		},
		"skopeo": {
			build: skopeo,
			fetch: func(ref, layout string) []string {
				return append(slices.Clone(skopeoCopy), "docker://"+ref, "oci:"+layout+":v1")
			},
			send: func(ref, layout string) []string {
				return append(slices.Clone(skopeoCopy), "oci:"+layout+":v1", "docker://"+ref)
			},
		},
	}
}
