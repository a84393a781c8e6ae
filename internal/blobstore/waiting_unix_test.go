//go:build unix

package blobstore

import (
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// S24: a process that was stopped (Ctrl-Z) holds its lock, and gets on only when it is told to.
func TestS24StoppedProcess(t *testing.T) {
	dir, content := t.TempDir(), random(1000)
	cmd, in := child(t, "hold small", dir)
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	synctest.Test(t, func(t *testing.T) {
		d, _, gaveUp := patient(t, dir, 5*time.Second)
		p := claim(t, d, content)
		fill(t, p, content)
		commit(t, p)
		assert.Equal(t, 1, *gaveUp)
	})
	assert.True(t, holds(t, filepath.Join(dir, nameOf(digestOf(content))), content))
	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
	requireBlob(t, dir, content)
}
