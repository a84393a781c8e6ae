package e2e

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program returns the path of a program of the system. A test that needs one that is not installed is
// skipped, except where every check has to run.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if path = "/usr/sbin/" + name; isFile(path) { // not in the PATH of everybody
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed: %v", name, err)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// start runs a server until the test ends, and shows what it has written where the test has failed.
func start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	output, err := os.CreateTemp(t.TempDir(), "output")
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		defer output.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		killer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer killer.Stop()
		_ = cmd.Wait() // ended by a signal
		if text, err := os.ReadFile(output.Name()); t.Failed() && err == nil {
			t.Logf("%s:\n%s", cmd.Path, text[max(0, len(text)-4*kib):])
		}
	})
}

// freeAddress returns an address on loopback for a program to listen at.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// awaitListener waits until a program that was started listens at its address.
func awaitListener(t testing.TB, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, 10*time.Second, 10*time.Millisecond, "nobody listens at %s", address)
}
