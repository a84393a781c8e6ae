package main

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

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

func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
