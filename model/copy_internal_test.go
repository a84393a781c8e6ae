package model

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// transport is a transport that is a function.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestH10AStreamThatStallsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := strings.Repeat("x", 100)
		client := &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			answer := &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody, Request: r}
			switch {
			case r.Method == http.MethodPut:
				_, _ = io.ReadFull(r.Body, make([]byte, 10))
				<-r.Context().Done()
				return nil, r.Context().Err()
			case r.Method == http.MethodPost:
				answer.StatusCode = http.StatusAccepted
				answer.Header = http.Header{"Location": {"/v2/a/blobs/uploads/1"}}
			case strings.Contains(r.URL.Path, "/sha256:"):
				answer.StatusCode, answer.ContentLength = http.StatusOK, 100
				answer.Body = io.NopCloser(strings.NewReader(content))
			}
			return answer, nil
		})}
		source, err := registry.Open(registry.Options{
			BaseURL: "http://registry.example", Repository: "a", Client: client,
		})
		require.NoError(t, err)
		defer source.CloseIdleConnections()
		p := &prober{client: client, base: "http://registry.example/v2/a/blobs/", patience: 10 * time.Second}
		var moved int64
		s := &streamer{from: source, to: p, told: func(n int64) { moved = n }}
		begin := time.Now()
		blob := transfer.Blob{Digest: digest.FromString(content).String(), Size: 100}
		left, err := s.all(t.Context(), []transfer.Blob{blob}, 1)
		require.NoError(t, err)
		assert.Len(t, left, 1)
		assert.Equal(t, 10*time.Second, time.Since(begin))
		assert.Zero(t, moved, "what was thrown away is not counted")
	})
}

// A target that checks nothing does not get the end of a wrong blob, and is not believed to have it.
func TestWrongBytesNeverReachTheirEnd(t *testing.T) {
	content := strings.Repeat("weights ", 100_000)
	b := transfer.Blob{Digest: digest.FromString(content).String(), Size: int64(len(content))}
	for name, at := range map[string]int{"first": 0, "middle": 400_000, "last": len(content) - 1} {
		t.Run(name, func(t *testing.T) {
			wrong := []byte(content)
			wrong[at] ^= 1
			var got, whole atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.Method {
				case http.MethodGet:
					_, _ = w.Write(wrong)
				case http.MethodHead:
					w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				case http.MethodPost:
					w.Header().Set("Location", "/v2/a/blobs/uploads/1")
					w.WriteHeader(http.StatusAccepted)
				case http.MethodPut:
					n, err := io.Copy(io.Discard, r.Body)
					if got.Add(n); err == nil {
						whole.Add(1)
					}
					w.WriteHeader(http.StatusCreated)
				}
			}))
			defer server.Close()
			client := newClient()
			defer client.CloseIdleConnections()
			opts := registry.Options{BaseURL: server.URL, Repository: "a", Client: client}
			source, err := registry.Open(opts)
			require.NoError(t, err)
			defer source.CloseIdleConnections()
			p := &prober{client: client, base: server.URL + "/v2/a/blobs/", patience: 10 * time.Second}
			var faults []error
			s := &streamer{from: source, to: p, told: func(int64) {}, trace: transfer.Trace{
				Failed: func(f transfer.FailInfo) { faults = append(faults, f.Err) },
			}}
			left, err := s.all(t.Context(), []transfer.Blob{b}, 1)
			require.NoError(t, err)
			assert.Equal(t, []transfer.Blob{b}, left)
			require.Len(t, faults, 1)
			require.ErrorIs(t, faults[0], transfer.ErrDigestMismatch)
			require.ErrorAs(t, faults[0], new(*sourceError))
			server.Close() // and so the target has read all that it gets
			assert.Zero(t, whole.Load())
			assert.Less(t, got.Load(), b.Size)
		})
	}
}

// longest notes the longest read.
type longest struct {
	io.Reader
	most int
}

func (l *longest) Read(p []byte) (int, error) {
	l.most = max(l.most, len(p))
	return l.Reader.Read(p)
}

// Each read of a body costs a system call on both sides.
func TestBodiesOfACopyGoInLongReads(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	client := newClient()
	defer client.CloseIdleConnections()
	body := &longest{Reader: strings.NewReader(strings.Repeat("x", 1<<20))}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, body)
	require.NoError(t, err)
	req.ContentLength = 1 << 20
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 128<<10, body.most)
}

// Who is cancelled while an upload begins still hears where it is, and ends it.
func TestAnUploadThatBeginsWhileACopyEndsIsEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var ended atomic.Bool
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			ended.Store(true)
			return
		}
		cancel()
		time.Sleep(10 * time.Millisecond) // so that the client has seen it
		w.Header().Set("Location", "/v2/a/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
	}))
	defer target.Close()
	p := &prober{client: target.Client(), base: target.URL + "/v2/a/blobs/", patience: time.Minute}
	upload, _, err := p.begin(ctx)
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, upload)
	assert.True(t, ended.Load())
}

// countedContext counts what is still to be called when it ends.
type countedContext struct {
	context.Context
	registered atomic.Int64
}

// Value hides that there is a context of the standard library behind it.
func (c *countedContext) Value(any) any { return nil }

func (c *countedContext) AfterFunc(f func()) (stop func() bool) {
	leave := context.AfterFunc(c.Context, f)
	c.registered.Add(1)
	return func() bool {
		c.registered.Add(-1)
		return leave()
	}
}

func TestARequestLeavesNothingWithAContextThatLivesOn(t *testing.T) {
	ctx := &countedContext{Context: t.Context()}
	_, stop := lingering(ctx)
	assert.EqualValues(t, 1, ctx.registered.Load())
	stop()
	assert.Zero(t, ctx.registered.Load())
}

func TestLargeBlobsGoThroughTheDiskAfterACopyThatHasEnded(t *testing.T) {
	d := detour{dir: filepath.Join(t.TempDir(), "dir")}
	small, large := transfer.Blob{Size: maxLost}, transfer.Blob{Size: maxLost + 1}
	direct, kept, err := d.split([]transfer.Blob{small})
	require.NoError(t, err)
	assert.Len(t, direct, 1)
	assert.Empty(t, kept)
	assert.NoDirExists(t, d.dir, "of small ones nothing is kept")
	direct, kept, err = d.split([]transfer.Blob{small, large})
	require.NoError(t, err)
	assert.Len(t, direct, 2)
	assert.Empty(t, kept)
	direct, kept, err = d.split([]transfer.Blob{small, large})
	require.NoError(t, err)
	assert.Equal(t, []transfer.Blob{small}, direct)
	assert.Equal(t, []transfer.Blob{large}, kept)
}
