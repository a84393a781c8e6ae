package e2e

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// nginx is the server of that name before a registry, with HTTP/1.1.
type nginx struct {
	*server   // the registry; url is that of nginx
	accessLog string
}

// forwarding is what has to be said for a registry to make right URLs.
const forwarding = `proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;`

const nginxConfiguration = `
daemon off; master_process off; pid %[1]s/pid; error_log stderr warn;
events {}
http {
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	log_format e2e '$request_method $status $request_length $request_uri';
	access_log %[1]s/access e2e;
	server {
		listen %[2]s;
		location / {
			proxy_pass %[3]s; proxy_http_version 1.1; proxy_set_header Connection "";
			%[4]s
		}
	}
}
`

// newNginx puts nginx before a registry, with more directives for what it passes on.
func newNginx(t testing.TB, s *server, directives string) *nginx {
	t.Helper()
	return startNginx(t, s, "", directives)
}

// newNginxTLS is newNginx with TLS.
func newNginxTLS(t testing.TB, s *server, directives string) *nginx {
	t.Helper()
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	pair := certified.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "pair.pem")
	require.NoError(t, os.WriteFile(file, append(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), 0o600))
	tls := fmt.Sprintf(" ssl; ssl_certificate %[1]s; ssl_certificate_key %[1]s", file)
	n := startNginx(t, s, tls, directives)
	n.client = certified.Client()
	n.url = strings.Replace(n.url, "http:", "https:", 1)
	return n
}

func startNginx(t testing.TB, s *server, tls, directives string) *nginx {
	t.Helper()
	path := program(t, "nginx")
	address := freeAddress(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(file,
		fmt.Appendf(nil, nginxConfiguration, dir, address+tls, s.url, directives), 0o600))
	start(t, exec.Command(path, "-p", dir, "-c", file))
	awaitListener(t, address)
	return &nginx{
		server:    &server{traffic: s.traffic, url: "http://" + address},
		accessLog: filepath.Join(dir, "access"),
	}
}

// logged is a request as nginx saw it.
type logged struct {
	method string
	status int
	length int64 // bytes of the request, with its header
	uri    string
}

// accesses returns the requests that nginx has answered.
func (n *nginx) accesses(t testing.TB) (all []logged) {
	t.Helper()
	f, err := os.Open(n.accessLog)
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var a logged
		_, err := fmt.Sscan(lines.Text(), &a.method, &a.status, &a.length, &a.uri)
		require.NoError(t, err, lines.Text())
		all = append(all, a)
	}
	require.NoError(t, lines.Err())
	return all
}

// answered returns the requests with a status.
func (n *nginx) answered(t testing.TB, status int) (found []logged) {
	t.Helper()
	for _, a := range n.accesses(t) {
		if a.status == status {
			found = append(found, a)
		}
	}
	return found
}

// received is how many bytes of bodies nginx was sent, and a few more for headers.
func (n *nginx) received(t testing.TB) (sum int64) {
	t.Helper()
	for _, a := range n.accesses(t) {
		sum += a.length
	}
	return sum
}
