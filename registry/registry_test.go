package registry_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

func TestOpenChecksOptions(t *testing.T) {
	for name, change := range map[string]func(*registry.Options){
		"no base URL": func(o *registry.Options) { o.BaseURL = "" },
		"no scheme":   func(o *registry.Options) { o.BaseURL = "registry.test" },
		"user in the base URL": func(o *registry.Options) {
			o.BaseURL = "https://u:" + password + "@x.test"
		},
		"malformed mirror":       func(o *registry.Options) { o.Mirrors = []string{"ftp://mirror.test"} },
		"no repository":          func(o *registry.Options) { o.Repository = "" },
		"malformed repository":   func(o *registry.Options) { o.Repository = "../x" },
		"negative stall timeout": func(o *registry.Options) { o.StallTimeout = -1 },
		"negative retry timeout": func(o *registry.Options) { o.RetryTimeout = -1 },
		"line in the agent":      func(o *registry.Options) { o.UserAgent = "a\nb" },
		"colon in the user name": func(o *registry.Options) { o.Credentials.Username = "a:b" },
		"password without user":  func(o *registry.Options) { o.Credentials.Password = password },
	} {
		opts := registry.Options{BaseURL: "https://registry.test", Repository: repository}
		change(&opts)
		repo, err := registry.Open(opts)
		require.ErrorIs(t, err, transfer.ErrInvalidOption, name)
		assert.Nil(t, repo, name)
		assert.NotContains(t, err.Error(), password, name)
	}
}

func TestOptionsForDownloadAndUpload(t *testing.T) {
	client := &http.Client{}
	opts := registry.Options{
		BaseURL: "https://registry.test/prefix", Repository: repository,
		Mirrors: []string{"https://mirror.test"},
		Client:  client, UserAgent: "puller/2", StallTimeout: time.Second, RetryTimeout: time.Minute,
	}
	repo, err := registry.Open(opts)
	require.NoError(t, err)
	opts.Mirrors[0] = "https://changed.test"
	down, up := repo.DownloadOptions(), repo.UploadOptions()
	assert.NotNil(t, down.GetToken)
	assert.NotNil(t, up.GetToken)
	down.GetToken, up.GetToken = nil, nil
	assert.Equal(t, transfer.DownloadOptions{
		BaseURL: opts.BaseURL, Repository: repository, Client: client,
		Mirrors:   []string{"https://mirror.test"},
		UserAgent: "puller/2", StallTimeout: time.Second, RetryTimeout: time.Minute,
	}, down)
	assert.Equal(t, transfer.UploadOptions{
		BaseURL: opts.BaseURL, Repository: repository, Client: client,
		UserAgent: "puller/2", StallTimeout: time.Second, RetryTimeout: time.Minute,
	}, up)
}

func TestPrintedOptionsHaveNoSecrets(t *testing.T) {
	opts := registry.Options{Credentials: registry.Credentials{Username: username, Password: password}}
	text := fmt.Sprintf("%v %+v %#v %s", opts, opts, opts, opts.Credentials)
	opts.Credentials = registry.Credentials{Username: username, IdentityToken: identity}
	text += fmt.Sprintf("%v %+v %#v %s", opts, opts, opts, opts.Credentials)
	assert.NotContains(t, text, password)
	assert.NotContains(t, text, identity)
	assert.Contains(t, text, username)
	assert.Equal(t, "anonymous", registry.Credentials{}.String())
}

// The package's own client works, and leaves no connection in use.
func TestOwnClient(t *testing.T) {
	w := newWorld(t, registrytest.H1)
	m := w.put("latest", "weights")
	server := registrytest.Serve(t, w.reg, registrytest.H1)
	repo := w.open(func(o *registry.Options) { o.Client, o.BaseURL = nil, server.URL })
	got, err := repo.Manifest(t.Context(), "latest")
	require.NoError(t, err)
	assert.Equal(t, m, got)
	repo.CloseIdleConnections()
}

// Connections are kept for the next call, but not for ever, also where the caller's client would.
func TestIdleConnectionsAreClosed(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.put("latest", "weights")
		repo := w.open()
		host := "registry.test:80"
		if mode == registrytest.H2 {
			host = "registry.test:443"
		}
		for _, c := range []struct {
			wait  time.Duration
			dials int
		}{{0, 1}, {20 * time.Second, 1}, {20 * time.Second, 1}, {31 * time.Second, 2}} {
			time.Sleep(c.wait)
			_, err := repo.Manifest(t.Context(), "latest")
			require.NoError(t, err)
			assert.Equal(t, c.dials, w.net.Dials(host))
		}
		repo.CloseIdleConnections()
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		assert.Equal(t, 3, w.net.Dials(host))
	})
}

// No secret is in what is logged.
func TestLogHasNoSecrets(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		w.reg.Fault("GET", "", "ok->503->ok")
		w.tokens.front.Fault("", "", "503")
		var log strings.Builder
		repo := w.open(person, logTo(&log))
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		assert.Contains(t, log.String(), "auth.test/token")
		w.secretFree(log.String())
		assert.NotContains(t, log.String(), "YWRhOmNvcnJlY3Q")
	})
}
