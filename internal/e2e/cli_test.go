package e2e

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// buildCLI builds the command line program once.
var buildCLI = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(os.Getenv("XDG_CACHE_HOME"), "cli-") // which goes at the end
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "transfer")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "cmd", "transfer")
	build.Env = toolchainEnv()
	build.Stderr = os.Stderr
	return program, build.Run()
})

// cli is the command line program of one person.
type cli struct {
	program, home string
	flags         []string
}

func newCLI(t *testing.T, flags ...string) cli {
	t.Helper()
	program, err := buildCLI()
	require.NoError(t, err)
	return cli{program: program, home: t.TempDir(), flags: flags}
}

// run runs a command and returns what it printed and its exit code.
func (c cli) run(ctx context.Context, stdin string, args ...string) (stdout, stderr string, code int) {
	cmd := exec.CommandContext(ctx, c.program, append(args, c.flags...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.home, "DOCKER_CONFIG=", "XDG_RUNTIME_DIR=")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out, failed bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &failed
	_ = cmd.Run() // the exit code says it
	return out.String(), failed.String(), cmd.ProcessState.ExitCode()
}

func (c cli) must(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := c.run(t.Context(), "", args...)
	require.Zero(t, code, "%v: %s", args, stderr)
	return stdout
}

// modelFiles are a model as people have it on disk.
func modelFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int{
		"model-00001-of-00002.safetensors": 40*mib + 7, "model-00002-of-00002.safetensors": mib,
		"config.json": 500, "tokenizer/vocab.txt": 5000, "README.md": 1000, "empty.txt": 0,
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, randomBytes(t, uint64(size), size), 0o644))
	}
	return dir
}

// requireSameFiles compares two directories, but for what the program keeps for itself.
func requireSameFiles(t *testing.T, want, got string) {
	t.Helper()
	read := func(dir string) map[string][]byte {
		files := map[string][]byte{}
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.Name() == ".transfer":
				return fs.SkipDir
			case d.IsDir():
				return nil
			}
			name, err := filepath.Rel(dir, path)
			require.NoError(t, err)
			files[name], err = os.ReadFile(path)
			return err
		}))
		return files
	}
	w, g := read(want), read(got)
	require.Len(t, g, len(w))
	for name, content := range w {
		require.True(t, bytes.Equal(content, g[name]), name)
	}
}

// cliFlags are what a server needs said on the command line.
func cliFlags(s *server) []string {
	if s.client != nil {
		return []string{"--insecure"}
	}
	return nil
}

func TestCLIRoundTripAtEveryRegistry(t *testing.T) {
	made := modelFiles(t)
	for name, s := range registries(t) {
		t.Run(name, func(t *testing.T) {
			c := newCLI(t, cliFlags(s)...)
			for _, kind := range []string{"files", "modelpack"} {
				ref := s.url + "/me/model:" + kind
				first := c.must(t, "push", "--type", kind, made, ref)
				pulled := t.TempDir()
				second := c.must(t, "pull", ref, pulled)
				requireSameFiles(t, made, pulled)
				_, want, _ := strings.Cut(first, "digest ")
				assert.Contains(t, second, "digest "+want)

				assert.Contains(t, c.must(t, "push", "--type", kind, made, ref), "all there already")
				assert.Contains(t, c.must(t, "pull", ref, pulled), "all there already")
				assert.Contains(t, c.must(t, "verify", pulled), "all right")
				assert.Contains(t, c.must(t, "inspect", ref), strings.TrimSpace(want))
			}
			assert.Equal(t, "files\nmodelpack\n", c.must(t, "tags", s.url+"/me/model"))

			layout, again := t.TempDir(), t.TempDir()
			c.must(t, "pull", "--into", "oci", s.url+"/me/model:files", layout)
			c.must(t, "push", layout, s.url+"/you/model:v1")
			stage := filepath.Join(t.TempDir(), "stage")
			c.must(t, "copy", "--dir", stage, s.url+"/you/model:v1", s.url+"/team/model:v1")
			c.must(t, "pull", s.url+"/team/model:v1", again)
			requireSameFiles(t, made, again)
		})
	}
}

func TestCLITokens(t *testing.T) {
	made, ts := modelFiles(t), newTokenServer(t)
	from, to := newDistribution(t).withToken(ts).serve(t), newDistribution(t).serve(t)
	c := newCLI(t)
	ref := from.url + "/me/model:v1"
	c.must(t, "push", made, ref)
	pulled := t.TempDir()
	c.must(t, "pull", ref, pulled)
	requireSameFiles(t, made, pulled)
	stage := filepath.Join(t.TempDir(), "stage")
	mounted := c.must(t, "copy", "--dir", stage, ref, from.url+"/team/model:v1")
	assert.Contains(t, mounted, "all there already")
	c.must(t, "copy", "--dir", stage, ref, to.url+"/you/model:v1")
	assert.Equal(t, "v1\n", c.must(t, "tags", ref))
	for _, secret := range ts.tokens() {
		_, stderr, _ := c.run(t.Context(), "", "pull", "--verbose", ref, t.TempDir())
		assert.NotContains(t, stderr, secret)
	}
}

func TestCLILogin(t *testing.T) {
	made, s := modelFiles(t), newDistribution(t).withPasswords(t).serve(t)
	c := newCLI(t)
	ref, host := s.url+"/me/model:v1", strings.TrimPrefix(s.url, "http://")
	_, stderr, code := c.run(t.Context(), "", "push", made, ref)
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "hint: log in with: transfer login "+host)
	_, stderr, code = c.run(t.Context(), "wrong", "login", "--username", user, "--password-stdin", host)
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "hint: check the name and the password")
	_, stderr, code = c.run(t.Context(), password, "login", "--username", user, "--password-stdin", host)
	require.Zero(t, code, stderr)
	c.must(t, "push", made, ref)
	pulled := t.TempDir()
	c.must(t, "pull", ref, pulled)
	requireSameFiles(t, made, pulled)
	c.must(t, "logout", host)
	_, _, code = c.run(t.Context(), "", "tags", ref)
	assert.Equal(t, 1, code)
}

func TestCLIInterruptedAtAnyTimeGoesOn(t *testing.T) {
	made, s := modelFiles(t), newDistribution(t).serve(t)
	c := newCLI(t, "--limit-rate", "60M")
	ref, pulled := s.url+"/me/model:v1", t.TempDir()
	for _, args := range [][]string{{"push", made, ref}, {"pull", ref, pulled}} {
		code := -1
		for after := 100 * time.Millisecond; code != 0; after += 50 * time.Millisecond {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			var stderr string
			_, stderr, code = c.run(ctx, "", args...)
			cancel()
			require.Contains(t, []int{0, 130}, code, "after %v: %v: %s", after, args, stderr)
		}
	}
	requireSameFiles(t, made, pulled)
}
