package model_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/stretchr/testify/require"
)

// TestMain fails when a call has left a goroutine or a descriptor behind.
func TestMain(m *testing.M) { registrytest.Main(m, registrytest.NoDescriptorLeft()) }

// serve runs a registry and returns it with its host.
func serve(t *testing.T, opts registrytest.Options) (*registrytest.Registry, string) {
	t.Helper()
	reg := registrytest.New(opts)
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	return reg, server.Listener.Addr().String()
}

// protected is a registry that lets in me with the password secret, and nobody else.
func protected() registrytest.Options {
	return registrytest.Options{Access: registrytest.Access{
		Challenge: `Basic realm="x"`,
		CheckToken: func(r *http.Request) bool {
			name, password, ok := r.BasicAuth()
			return ok && name == "me" && password == "secret"
		},
	}}
}

// logIn has the environment name a directory of docker's with a log-in to a registry.
func logIn(t *testing.T, host string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	config := []byte(`{"auths": {"` + host + `": {"auth": "bWU6c2VjcmV0"}}}`) // me:secret
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
}

func parse(t *testing.T, text string) ref.Reference {
	t.Helper()
	r, err := ref.Parse(text)
	require.NoError(t, err)
	return r
}
