package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/stretchr/testify/require"
)

// The environment that makes the test binary a child, and tells it where to work.
const (
	childRole = "BLOBSTORE_TEST_CHILD"
	childDir  = "BLOBSTORE_TEST_DIR"
)

// playChild writes half a blob and then does what the role says.
func playChild(role string) int {
	if role == "limited" {
		return writeLimited(os.Getenv(childDir))
	}
	content := random(large)
	switch role {
	case "hold small":
		content = random(1000)
	case "hold medium":
		content = random(5<<20 + 1)
	}
	d, err := Open(os.Getenv(childDir))
	if err != nil {
		return 3
	}
	p, err := d.Claim(context.Background(), digestOf(content), int64(len(content)))
	if err != nil {
		return 4
	}
	err = p.writeHalf(content)
	if err == nil {
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or told to go on
		err = p.writeMissing(content)
	}
	if err == nil {
		err = p.Commit(context.Background())
	}
	if errors.Join(err, p.Close(err == nil), d.Close()) != nil {
		return 5
	}
	return 0
}

// writeHalf writes half of the first range that is missing.
func (p *Partial) writeHalf(content []byte) error {
	missing := p.Missing()
	if len(missing) == 0 {
		return nil
	}
	w := p.WriterAt(missing[0].Start)
	_, err := w.Write(content[missing[0].Start:][:(missing[0].Len()+1)/2])
	return errors.Join(err, w.Close())
}

func (p *Partial) writeMissing(content []byte) error {
	for len(p.Missing()) > 0 {
		if err := p.writeHalf(content); err != nil {
			return err
		}
	}
	return nil
}

// child starts a child, and waits until it holds the claim.
func child(t *testing.T, role, dir string) (*exec.Cmd, io.Closer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+role, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	ready := make([]byte, 5)
	_, err = io.ReadFull(out, ready)
	require.NoError(t, err)
	require.Equal(t, "ready", string(ready))
	return cmd, in
}

func TestS12AnotherProcessFinishes(t *testing.T) {
	dir, content := t.TempDir(), random(1000)
	d := open(t, dir)
	cmd, in := child(t, "hold small", dir)
	_, err := d.tryClaim(t.Context(), digestOf(content), 1000, 0)
	require.ErrorIs(t, err, filelock.ErrBusy)
	require.NoError(t, in.Close())
	_, err = d.Claim(t.Context(), digestOf(content), 1000)
	require.ErrorIs(t, err, ErrThere)
	require.NoError(t, cmd.Wait())
	requireBlob(t, dir, content)
}

func TestS14KilledProcessIsContinued(t *testing.T) {
	dir, content := t.TempDir(), random(large)
	d := open(t, dir)
	dg := digestOf(content)
	cmd, _ := child(t, "hold", dir)
	_, err := d.tryClaim(t.Context(), dg, large, 0)
	require.ErrorIs(t, err, filelock.ErrBusy)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())

	require.Equal(t, int64((large+1)/2), d.BytesOnDisk(dg, large))
	p := claim(t, d, content)
	require.Equal(t, int64((large+1)/2), p.Missing()[0].Start)
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
	require.Zero(t, d.BytesOnDisk(dg, large))
}

func TestS14KilledProcessWithSmallBlob(t *testing.T) {
	dir, content := t.TempDir(), random(1000)
	d := open(t, dir)
	cmd, _ := child(t, "hold small", dir)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.Zero(t, d.BytesOnDisk(digestOf(content), 1000))
	p := claim(t, d, content)
	require.Len(t, p.Missing(), 1)
	require.Equal(t, int64(1000), p.Missing()[0].Len())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}
