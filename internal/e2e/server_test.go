package e2e

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
)

// server is a handler on loopback, with a record of its traffic.
type server struct {
	*traffic
	url    string
	client *http.Client // trusts the certificate of the server; nil where it has none
}

// serve serves h over HTTP/1.1 or, with TLS, over HTTP/2 until the test ends.
func serve(t testing.TB, h http.Handler, withTLS bool) *server {
	t.Helper()
	s := &server{traffic: newTraffic(h)}
	hs := httptest.NewUnstartedServer(s.traffic)
	hs.Config.ConnState = s.countConnections
	hs.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that a test cuts
	hs.EnableHTTP2 = withTLS
	if withTLS {
		hs.StartTLS()
		s.client = hs.Client()
	} else {
		hs.Start()
	}
	t.Cleanup(func() {
		hs.CloseClientConnections()
		hs.Close()
	})
	s.url = hs.URL
	return s
}
