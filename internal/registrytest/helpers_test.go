package registrytest_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

const repo = "library/model"

// wsaeconnreset is what Windows calls ECONNRESET.
const wsaeconnreset = syscall.Errno(10054)

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, wsaeconnreset)
}

// content returns n bytes that are always the same.
func content(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// starter serves a handler.
type starter func(http.Handler) *registrytest.Server

// everywhere runs f against the handler in every mode, over sockets and in memory.
func everywhere(t *testing.T, f func(t *testing.T, mode registrytest.Mode, start starter)) {
	for _, mode := range registrytest.Modes() {
		t.Run(mode.String()+" loopback", func(t *testing.T) {
			f(t, mode, func(h http.Handler) *registrytest.Server { return registrytest.Serve(t, h, mode) })
		})
		t.Run(mode.String()+" memory", func(t *testing.T) {
			f(t, mode, func(h http.Handler) *registrytest.Server {
				return registrytest.ServeInMemory(t, h, mode)
			})
		})
	}
}

// answer is a response that was read to its end, or to what ended it.
type answer struct {
	status  int
	header  http.Header
	length  int64
	chunked bool
	close   bool
	body    []byte
	err     error // of the request or, after it, of the body
}

// ask sends a request with headers given as "Name: value".
func ask(t *testing.T, c *http.Client, method, url, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return send(c, req)
}

func send(c *http.Client, req *http.Request) answer {
	bare := *c
	bare.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := bare.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	a := answer{
		status: res.StatusCode, header: res.Header, length: res.ContentLength,
		chunked: len(res.TransferEncoding) > 0, close: res.Close,
	}
	a.body, a.err = io.ReadAll(res.Body)
	return a
}
