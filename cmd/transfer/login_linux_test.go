package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openTerminal returns a terminal and its other end, where a person is.
func openTerminal(t *testing.T) (terminal, master *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = terminal.Close() })
	return terminal, master
}

// typed returns a terminal at which a person has typed so.
func typed(t *testing.T, keys string) *os.File {
	t.Helper()
	terminal, master := openTerminal(t)
	_, err := master.WriteString(keys)
	require.NoError(t, err)
	return terminal
}

// A terminal shows ^C where the cursor is.
func TestAnInterruptIsSaidFromTheLeft(t *testing.T) {
	terminal, master := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := &app{stdin: strings.NewReader(""), stdout: new(lockedBuffer), stderr: terminal, getenv: noEnv}
	require.Equal(t, exitInterrupted, a.run(ctx, []string{"tags", "registry.invalid/me/model"}))
	shown := make([]byte, 100)
	n, err := master.Read(shown)
	require.NoError(t, err)
	assert.Equal(t, "\rtransfer: interrupted\r\n", string(shown[:n]))
}

func TestAPersonLogsInAtATerminal(t *testing.T) {
	url := guard(t, startedServer(t))
	host := strings.TrimPrefix(url, "http://")
	for name, test := range map[string]struct {
		keys, want string
		code       int
	}{
		"name and password": {"me\nhunter2\n", "logged in to " + host + " as me", exitOK},
		"no name":           {"\n", "there is no name", exitUsage},
		"the end":           {"\x04", "there is no name", exitUsage},
		"no password":       {"me\n\n", "there is no password", exitUsage},
		"a wrong password":  {"me\nwrong\n", "hint: " + host + " refuses me; check the name", exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr lockedBuffer
			home := t.TempDir()
			a := &app{
				stdin: typed(t, test.keys), stdout: &stdout, stderr: &stderr,
				getenv: env(map[string]string{"HOME": home}),
			}
			code := a.run(t.Context(), []string{"login", "--timeout", "10s", host})
			assert.Equal(t, test.code, code, stderr.String())
			assert.Contains(t, stdout.String()+stderr.String(), test.want)
			if !strings.HasSuffix(test.keys, "\n") {
				assert.Contains(t, stderr.String(), ": \ntransfer: ", "the prompt has a line of its own")
			}
			if test.code != exitOK {
				assert.NoFileExists(t, filepath.Join(home, ".docker", "config.json"))
			}
		})
	}
}
