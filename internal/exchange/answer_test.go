package exchange_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

// slowBody gives a portion a second.
type slowBody struct {
	ctx     context.Context
	data    *bytes.Reader
	portion int
}

func (b *slowBody) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		return b.data.Read(p[:min(len(p), b.portion)])
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	}
}

func (b *slowBody) Close() error { return nil }

// Who waits for an answer sees nothing of it before it is whole: one that comes by the byte is given up, as
// one that does not come. A blob may come as slowly as it does.
func TestN9AnswersThatComeByTheByte(t *testing.T) {
	const size = 100_000
	for name, c := range map[string]struct {
		status, portion int
		blob            bool
		most            time.Duration // 0: it comes whole
	}{
		"a manifest by the byte":       {200, 1, false, 2 * stallTimeout},
		"a slow manifest":              {200, 1000, false, 0},
		"a failure by the byte":        {500, 1, false, 2 * stallTimeout},
		"a blob by the byte":           {200, 1, true, 0},
		"a failure in place of a blob": {500, 1, true, 2 * stallTimeout},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
				resp := says(c.status, "")
				resp.ContentLength = size
				resp.Body = &slowBody{r.Context(), bytes.NewReader(make([]byte, size)), c.portion}
				return resp, nil
			})
			began := time.Now()
			request := wire.Request{Method: http.MethodGet, Target: w.target}
			resp, err := w.Do(t.Context(), exchange.Request{Request: request, MaySlow: true, Blob: c.blob})
			require.NoError(t, err)
			defer resp.Body.Close()
			data, err := io.ReadAll(resp.Body)
			if c.most > 0 {
				require.ErrorIs(t, err, watchdog.ErrStalled)
				assert.LessOrEqual(t, time.Since(began), c.most+time.Second)
				return
			}
			require.NoError(t, err)
			assert.Len(t, data, size)
		})
	}
}

// lateEnd is a body whose end comes some time after its last byte.
type lateEnd struct {
	io.Reader
	ctx   context.Context
	after time.Duration
	ended bool // its end was read before it was closed
}

func (b *lateEnd) Read(p []byte) (int, error) {
	if n, err := b.Reader.Read(p); err != io.EOF {
		return n, err
	}
	select {
	case <-time.After(b.after):
		b.ended = true
		return 0, io.EOF
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	}
}

func (b *lateEnd) Close() error { return nil }

// A stream whose bytes have all come is not closed before its end, which comes at once: servers count streams
// that are reset (jetty.project#11595). One that does not end is not waited for.
func TestN36EndOfAStreamIsRead(t *testing.T) {
	for name, c := range map[string]struct {
		read, length int64
		after        time.Duration
		ended        bool
		most         time.Duration
	}{
		"all was read":            {4, 4, 10 * time.Millisecond, true, 10 * time.Millisecond},
		"it does not end":         {4, 4, time.Hour, false, 50 * time.Millisecond},
		"some was read":           {3, 4, 10 * time.Millisecond, false, 0},
		"nobody knows its length": {4, -1, 10 * time.Millisecond, false, 0},
	} {
		inBubble(t, name, func(t *testing.T) {
			var body *lateEnd
			w := newWorld(t, nil, func(r *http.Request) (*http.Response, error) {
				resp := says(200, "blob")
				body = &lateEnd{Reader: resp.Body, ctx: r.Context(), after: c.after}
				resp.Body, resp.ContentLength = body, c.length
				return resp, nil
			})
			resp, err := w.Do(t.Context(), w.get())
			require.NoError(t, err)
			_, err = io.CopyN(io.Discard, resp.Body, c.read)
			require.NoError(t, err)
			began := time.Now()
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, c.most, time.Since(began))
			assert.Equal(t, c.ended, body.ended)
			w.requireSlot()
		})
	}
}
