package main

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/modeltransfer/transfer/internal/wire"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnAuthorityIsTrustedOrNoneIsAskedFor(t *testing.T) {
	made := tree(t, someFiles)
	s := startedServer(t)
	secure := httptest.NewTLSServer(s.http.Handler)
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pemOf(secure), 0o600))
	must(t, "push", "--ca-file", ca, made, secure.URL+"/me/model")
	pulled := t.TempDir()
	must(t, "pull", "--insecure", secure.URL+"/me/model", pulled)
	assert.Equal(t, someFiles, filesOf(t, pulled))
	r := runWith(t, "tags", "--ca-file", largest(t, made), secure.URL+"/me/model")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "no certificate in it")
}

// The flags of TLS change how a registry is trusted, not how bodies move.
func TestAClientOfTheFlagsSendsAsThePackageDoes(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer plain.Close()
	longest := func(c *http.Client) (most int) {
		body := readerOf(func(p []byte) (int, error) {
			most = max(most, len(p))
			return len(p), nil
		})
		sent := io.LimitReader(body, 1<<20)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, plain.URL, sent)
		require.NoError(t, err)
		r.ContentLength = 1 << 20
		resp, err := c.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return most
	}
	of, err := (&connection{insecure: true}).client()
	require.NoError(t, err)
	defer of.CloseIdleConnections()
	own := &http.Client{Transport: wire.NewTransport(1)}
	defer own.CloseIdleConnections()
	assert.Equal(t, longest(own), longest(of))
}

// readerOf is a reader in one function.
type readerOf func([]byte) (int, error)

func (f readerOf) Read(p []byte) (int, error) { return f(p) }

func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
