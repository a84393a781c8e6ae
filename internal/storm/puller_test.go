//go:build linux

package storm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program is the path of the built puller.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "storm")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "puller")
	code := 1
	if out, err := exec.Command("go", "build", "-o", program, "./puller").CombinedOutput(); err != nil {
		fmt.Printf("building the puller: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// blob is what a puller is told to fetch.
type blob struct {
	digest digest.Digest
	size   int64
}

func (b blob) name() string { return strings.Replace(b.digest.String(), ":", "-", 1) }

// sandbox is a directory with a directory of blobs in it and a file that nobody may touch, and all that a
// puller is told about places to write to.
type sandbox struct {
	t     testing.TB
	path  string
	dest  string
	base  string
	blobs []blob
}

const bystander = "bystander"

func newSandbox(t testing.TB, base string, blobs ...blob) *sandbox {
	t.Helper()
	path, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(path, bystander), []byte(bystander), 0o600))
	return &sandbox{t: t, path: path, dest: filepath.Join(path, "dest"), base: base, blobs: blobs}
}

// command is a puller of all blobs, behind what is to run it.
func (s *sandbox) command(stderr io.Writer, before ...string) *exec.Cmd {
	var list []string
	for _, b := range s.blobs {
		list = append(list, fmt.Sprintf("%s:%d", b.digest, b.size))
	}
	args := append(before, program, "-base", s.base, "-dir", s.dest, "-blobs", strings.Join(list, ","))
	cmd := exec.CommandContext(s.t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Stderr = s.path, stderr
	cmd.Env = append(os.Environ(), "HOME="+s.path, "TMPDIR="+s.path)
	return cmd
}

// pull runs a puller that nobody disturbs.
func (s *sandbox) pull(options ...string) {
	s.t.Helper()
	var stderr bytes.Buffer
	cmd := s.command(&stderr)
	cmd.Args = append(cmd.Args, options...)
	require.NoError(s.t, cmd.Run(), stderr.String())
}

// check makes sure that nothing outside the directory was touched and that each final name holds its blob. It
// returns the blobs that are there.
func (s *sandbox) check() (there []blob) {
	s.t.Helper()
	around, err := os.ReadDir(s.path)
	require.NoError(s.t, err)
	for _, e := range around {
		assert.Contains(s.t, []string{bystander, "dest"}, e.Name(), "created outside the directory")
	}
	content, err := os.ReadFile(filepath.Join(s.path, bystander))
	require.NoError(s.t, err)
	assert.Equal(s.t, bystander, string(content), "changed outside the directory")
	for _, b := range s.blobs {
		f, err := os.Open(filepath.Join(s.dest, b.name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(s.t, err)
		got, err := digest.FromReader(f)
		require.NoError(s.t, errors.Join(err, f.Close()))
		require.Equal(s.t, b.digest, got, "a wrong file under a final name")
		there = append(there, b)
	}
	return there
}

// files returns the names of the files among the blobs.
func (s *sandbox) files() []string {
	s.t.Helper()
	entries, err := os.ReadDir(s.dest)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(s.t, err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// complete makes sure that all blobs are there and nothing else is.
func (s *sandbox) complete() {
	s.t.Helper()
	var want []string
	for _, b := range s.blobs {
		want = append(want, b.name())
	}
	require.Len(s.t, s.check(), len(s.blobs))
	require.ElementsMatch(s.t, want, s.files())
}
