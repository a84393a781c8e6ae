package registrytest

import (
	"context"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMemConnCloseAfterData(t *testing.T) {
	for name, tt := range map[string]struct {
		close func(*memConn)
		want  error
	}{
		"close": {func(c *memConn) { c.Close() }, io.EOF},
		"reset": {func(c *memConn) { c.CloseWithError(syscall.ECONNRESET) }, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := memPipe("a", "b")
			_, err := a.Write([]byte("hello"))
			require.NoError(t, err)
			tt.close(a)
			tt.close(a)

			buf := make([]byte, 10)
			n, err := b.Read(buf)
			require.NoError(t, err)
			assert.Equal(t, "hello", string(buf[:n]))
			_, err = b.Read(buf)
			assert.ErrorIs(t, err, tt.want)
			_, err = b.Write(buf)
			assert.ErrorIs(t, err, syscall.ECONNRESET)
			_, err = a.Read(buf)
			assert.ErrorIs(t, err, net.ErrClosed)
			_, err = a.Write(buf)
			assert.ErrorIs(t, err, net.ErrClosed)
			<-b.Gone()
		})
	}
}

func TestMemConnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memPipe("a", "b")
		began := time.Now()
		a.SetReadDeadline(began.Add(time.Hour))
		_, err := a.Read(make([]byte, 1))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, time.Hour, time.Since(began))

		a.SetWriteDeadline(time.Now().Add(time.Hour))
		n, err := a.Write(make([]byte, 2*memBuffer))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, memBuffer, n)
		assert.Equal(t, 2*time.Hour, time.Since(began))

		a.SetDeadline(time.Time{})
		go b.Write([]byte("x"))
		_, err = a.Read(make([]byte, 1))
		assert.NoError(t, err)

		a.SetReadDeadline(time.Now().Add(-time.Second))
		_, err = a.Read(make([]byte, 1))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
	})
}

func TestMemListenerClosed(t *testing.T) {
	l := newMemListener("registry.test:80")
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	_, err := l.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	_, err = l.dial(context.Background())
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}
