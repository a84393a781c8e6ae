package push_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// closes counts answers and how many of their bodies were closed. It answers a PUT though its body could not
// be read.
type closes struct {
	next           http.RoundTripper
	answers, ended atomic.Int64
}

func (c *closes) RoundTrip(r *http.Request) (*http.Response, error) {
	var resp *http.Response
	var err error
	if r.Method == http.MethodPut {
		_, _ = io.Copy(io.Discard, r.Body)
		resp = &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody, Request: r}
	} else if resp, err = c.next.RoundTrip(r); err != nil {
		return nil, err
	}
	c.answers.Add(1)
	resp.Body = &closing{resp.Body, &c.ended}
	return resp, nil
}

type closing struct {
	io.ReadCloser
	count *atomic.Int64
}

func (c *closing) Close() error {
	c.count.Add(1)
	return c.ReadCloser.Close()
}

// A wrong source ends an upload, and the answer that comes all the same is closed.
func TestU7AnswerToAWrongSourceIsClosed(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		count := &closes{}
		w.round = func(next http.RoundTripper) http.RoundTripper { count.next = next; return count }
		b := w.local(3 << 20)
		wrong := append([]byte(nil), b.data...)
		wrong[0] ^= 1
		w.replace(b, wrong)
		require.ErrorIs(t, w.push(b, ""), sentinel.ErrDigestMismatch)
		assert.EqualValues(t, 4, count.answers.Load(), "HEAD, POST, PUT, DELETE")
		assert.Equal(t, count.answers.Load(), count.ended.Load())
	})
}
