package conformance

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestH12ServeConforms runs the suite against the registry of the command line, which is a module of its own.
func TestH12ServeConforms(t *testing.T) {
	program := build(t, ".", filepath.Join("..", "..", "..", "cmd", "transfer"))
	out, err := run(t, build(t, suitePackage, "."), serve(t, program))
	assert.NoError(t, err, "%s", out)
}

// serve runs the registry until the test ends and returns its URL.
func serve(t *testing.T, program string) string {
	t.Helper()
	cmd := exec.Command(program, "serve", "--listen", "127.0.0.1:0", t.TempDir())
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		assert.NoError(t, cmd.Process.Signal(os.Interrupt))
		assert.NoError(t, cmd.Wait())
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	_, rest, _ := strings.Cut(line, " at ")
	url, _, found := strings.Cut(rest, ";")
	require.True(t, found, line)
	return url
}
