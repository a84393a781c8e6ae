package wire

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A peer that reads nothing is given little more than its own buffer holds.
func TestKernelTakesLittleOfABody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	conn, err := NewTransport(1).DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	peer, err := l.Accept()
	require.NoError(t, err)
	defer peer.Close()
	require.NoError(t, peer.(*net.TCPConn).SetReadBuffer(64<<10))

	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
	n, err := io.Copy(conn, endless{})
	require.Error(t, err)
	assert.Less(t, n, int64(1<<20))
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// What waits in the kernel is seen to leave it.
func TestE19BytesAreSeenToLeaveTheKernel(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	conn, err := NewTransport(1).DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	peer, err := l.Accept()
	require.NoError(t, err)
	defer peer.Close()
	drained := Drained(conn)
	require.NotNil(t, drained)
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
	_, err = io.Copy(conn, endless{})
	require.Error(t, err)
	assert.Greater(t, drained(), int64(64<<10))

	require.NoError(t, peer.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
	_, err = io.Copy(io.Discard, peer)
	require.Error(t, err)
	assert.Zero(t, drained())
	assert.NotNil(t, Drained(tls.Client(conn, &tls.Config{})))
}
