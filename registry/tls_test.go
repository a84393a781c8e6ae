package registry_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/wire"
	"github.com/modeltransfer/transfer/registry"
)

// What TLS does not agree on now, it does not agree on later.
func TestN51TLSThatFailsForGood(t *testing.T) {
	for name, c := range map[string]struct {
		server, client *tls.Config
		says           string
	}{
		"certificate required, TLS 1.3": {
			server: &tls.Config{ClientAuth: tls.RequireAnyClientCert}, says: "tls.Config.Certificates"},
		"certificate required, TLS 1.2": {
			server: &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12},
			says:   "tls.Config.Certificates"},
		"the server is newer": {
			server: &tls.Config{MinVersion: tls.VersionTLS13},
			client: &tls.Config{MaxVersion: tls.VersionTLS12},
			says:   "tls.Config.MinVersion"},
		"the server is older": {
			server: &tls.Config{MaxVersion: tls.VersionTLS12},
			client: &tls.Config{MinVersion: tls.VersionTLS13},
			says:   "tls.Config.MinVersion"},
		"no common cipher": {
			server: &tls.Config{
				MaxVersion:   tls.VersionTLS12,
				CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
			client: &tls.Config{
				MaxVersion:   tls.VersionTLS12,
				CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}},
			says: "CipherSuites"},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " HTTP/2 ", h2), func(t *testing.T) {
				conns, err := refusedByTLS(t, c.server.Clone(), c.client.Clone(), h2)
				most := int32(1)
				if h2 && strings.Contains(name, "1.3") {
					most = 2 // the refusal comes after the handshake, and HTTP/2 of net/http may lose it
				}
				assert.LessOrEqual(t, conns, most, err)
				require.ErrorAs(t, err, new(*wire.TLSRefused))
				assert.NotErrorIs(t, err, transfer.ErrRetriesExhausted)
				assert.ErrorContains(t, err, c.says)
			})
		}
	}
}

// A refusal that HTTP/2 has lost is found over HTTP/1.1.
func TestN51RefusalThatHTTP2Loses(t *testing.T) {
	var mu sync.Mutex
	over := map[bool]int{} // guarded by mu
	serving := &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	serving.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		h2 := slices.Contains(hello.SupportedProtos, "h2")
		mu.Lock()
		defer mu.Unlock()
		if over[h2]++; h2 {
			return nil, errors.Join(hello.Conn.(*net.TCPConn).SetLinger(0), hello.Conn.Close()) // a reset
		}
		return nil, nil
	}
	conns, err := refusedByTLS(t, serving, nil, true)
	require.ErrorAs(t, err, new(*wire.TLSRefused))
	assert.ErrorContains(t, err, "tls.Config.Certificates")
	assert.EqualValues(t, 2, conns)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, map[bool]int{true: 1, false: 1}, over)
}

// refusedByTLS asks for a manifest, and returns how many connections were made for that, and the error.
func refusedByTLS(t *testing.T, serving, asking *tls.Config, h2 bool) (int32, error) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	var conns atomic.Int32
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	server.TLS, server.EnableHTTP2 = serving, h2
	server.StartTLS()
	defer server.Close()
	if asking == nil {
		asking = new(tls.Config)
	}
	asking.InsecureSkipVerify = true
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: asking, ForceAttemptHTTP2: h2}}
	opts := registry.Options{BaseURL: server.URL, Repository: repository, Client: client}
	repo, err := registry.Open(opts)
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	_, err = repo.Manifest(t.Context(), "latest")
	require.Error(t, err)
	return conns.Load(), err
}
