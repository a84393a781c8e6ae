package push_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// everyConnectionEnds ends each connection when so many bytes were sent over it.
func (w *world) everyConnectionEnds(after int64) {
	w.round = func(rt http.RoundTripper) http.RoundTripper {
		transport := rt.(*http.Transport)
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			c := &shortLived{Conn: conn}
			c.left.Store(after)
			return c, nil
		}
		return transport
	}
}

type shortLived struct {
	net.Conn
	left atomic.Int64
}

func (c *shortLived) Write(p []byte) (int, error) {
	if c.left.Add(-int64(len(p))) < 0 {
		_ = c.Close()
		return 0, errors.New("the link has ended the connection")
	}
	return c.Conn.Write(p)
}

// losesCutSessions has the registry lose a session with each body that is cut, as distribution 2 does.
func (w *world) losesCutSessions() {
	var lost atomic.Bool
	w.before(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && lost.Swap(false) {
			rw.WriteHeader(http.StatusNotFound)
			return true
		}
		data, err := io.ReadAll(r.Body)
		if err != nil {
			lost.Store(true)
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(data))
		return false
	})
}

func TestU9SessionsAreLostWithEachCutBody(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.everyConnectionEnds(9 << 20)
		w.losesCutSessions()
		b := w.local(40 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.LessOrEqual(t, w.reg.Count("POST", ""), 4, "sessions")
	})
}

// Below a certain size a body is sent again from its beginning, but not for ever.
func TestN1NoConnectionLastsForASmallBody(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.everyConnectionEnds(3 << 20)
		b := w.local(7 << 20)
		require.NoError(t, w.push(b, ""))
		w.requireStored(b)
		assert.LessOrEqual(t, w.reg.BytesReceived(), 2*b.size())
	})
}
