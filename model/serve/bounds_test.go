package serve_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer/model/serve"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func contextWith(ctx context.Context, local net.Addr) context.Context {
	return context.WithValue(ctx, http.LocalAddrContextKey, local)
}

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error {
	close(p)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.IPAddr{} }

// inMemory serves a directory in a bubble of synctest, and returns a function that connects to it.
func inMemory(t *testing.T, dir string) (dial func() net.Conn) {
	t.Helper()
	r, err := serve.Open(dir, serve.Options{})
	require.NoError(t, err)
	listener, s := make(pipes), &http.Server{Handler: r}
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(func() {
		_ = s.Close()
		synctest.Wait()
		assert.NoError(t, r.Close())
	})
	return func() net.Conn {
		client, server := net.Pipe()
		listener <- server
		return client
	}
}

// ask sends a request by hand and returns the answer.
func ask(t *testing.T, conn net.Conn, method, path, headers, body string) *http.Response {
	t.Helper()
	go fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s", method, path, headers, body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return resp
}

func TestH6ABodyThatFallsSilentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := inMemory(t, t.TempDir())
		begin := time.Now()
		for path, method := range map[string]string{
			"/v2/a/blobs/uploads/?digest=" + digest.FromString("x").String(): "POST",
			"/v2/a/manifests/v1": "PUT",
		} {
			resp := ask(t, dial(), method, path, "Content-Length: 100\r\n", "0123")
			assert.Equal(t, 408, resp.StatusCode)
		}
		assert.Equal(t, 2*time.Minute, time.Since(begin))
	})
}

func TestH6ABodyThatTricklesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := inMemory(t, t.TempDir())()
		begin, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			fmt.Fprint(conn, "POST /v2/a/blobs/uploads/?digest=x HTTP/1.1\r\n"+
				"Host: localhost\r\nContent-Length: 1000000\r\n\r\n")
			for err := error(nil); err == nil; time.Sleep(30 * time.Second) {
				_, err = conn.Write([]byte("x"))
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, 408, resp.StatusCode)
		assert.Equal(t, 24*time.Hour, time.Since(begin))
		conn.Close()
		<-done
	})
}

func TestH6AnAnswerThatIsNotReadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		content := make([]byte, 3<<20)
		dg := digest.FromBytes(content)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "repositories"), 0o700))
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", dg.Encoded()), content, 0o600))
		dial := inMemory(t, dir)
		slow := ask(t, dial(), "GET", "/v2/a/blobs/"+dg.String(), "", "")
		for range 3 {
			time.Sleep(50 * time.Second) // for each MiB
			_, err := io.CopyN(io.Discard, slow.Body, 1<<20)
			require.NoError(t, err)
		}
		stuck := ask(t, dial(), "GET", "/v2/a/blobs/"+dg.String(), "", "")
		time.Sleep(2 * time.Minute)
		_, err := io.Copy(io.Discard, stuck.Body)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
}

func TestH6OpenUploadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		conn := inMemory(t, dir)()
		begin := func() int {
			resp := ask(t, conn, "POST", "/v2/a/blobs/uploads/", "Content-Length: 0\r\n", "")
			return resp.StatusCode
		}
		for range 1024 {
			require.Equal(t, 202, begin())
		}
		assert.Equal(t, 429, begin())
		left, err := os.ReadDir(filepath.Join(dir, "uploads"))
		require.NoError(t, err)
		require.Len(t, left, 1024)
		old := time.Now().Add(-2 * time.Hour)
		require.NoError(t, os.Chtimes(filepath.Join(dir, "uploads", left[0].Name()), old, old))
		for _, e := range left[1:] { // the time of files is not that of the bubble
			require.NoError(t, os.Chtimes(filepath.Join(dir, "uploads", e.Name()), time.Now(), time.Now()))
		}
		assert.Equal(t, 202, begin(), "in the place of the one that nobody continues")
		assert.Equal(t, 429, begin())
	})
}

// What nobody continues for a week is removed while the registry runs, too.
func TestH6UploadsThatNobodyContinuesAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		dial := inMemory(t, dir)
		resp := ask(t, dial(), "POST", "/v2/a/blobs/uploads/", "Content-Length: 0\r\n", "")
		require.Equal(t, 202, resp.StatusCode)
		left, err := os.ReadDir(filepath.Join(dir, "uploads"))
		require.NoError(t, err)
		require.NoError(t, os.Chtimes(filepath.Join(dir, "uploads", left[0].Name()), time.Now(), time.Now()))
		time.Sleep(8 * 24 * time.Hour)
		resp = ask(t, dial(), "POST", "/v2/a/blobs/uploads/", "Content-Length: 0\r\n", "")
		require.Equal(t, 202, resp.StatusCode)
		now, err := os.ReadDir(filepath.Join(dir, "uploads"))
		require.NoError(t, err)
		require.Len(t, now, 1)
		assert.NotEqual(t, left[0].Name(), now[0].Name())
	})
}
