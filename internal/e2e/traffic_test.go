package e2e

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
)

// Kinds of requests, by path.
const (
	kindBlob     = "blob"
	kindUpload   = "upload"
	kindManifest = "manifest"
	kindOther    = "other"
)

// exchange is one request and its answer, as a server saw them.
type exchange struct {
	method, kind, path, query string
	host                      string
	authorization             string
	byteRange                 string // the Range header
	userAgent                 string
	proto                     string
	status                    int
	received                  int64 // bytes of the request body that the server read
	sent                      int64 // bytes of the response body
}

// traffic is a middleware that writes down what goes through it.
type traffic struct {
	next        http.Handler
	connections atomic.Int64 // connections accepted since the server began

	mu        sync.Mutex // guards the fields that follow
	idle      sync.Cond
	active    int
	exchanges []exchange
}

func newTraffic(next http.Handler) *traffic {
	t := &traffic{next: next}
	t.idle.L = &t.mu
	return t
}

func (t *traffic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	t.active++
	t.mu.Unlock()
	e := exchange{
		method: r.Method, kind: kindOf(r.URL.Path), path: r.URL.Path, query: r.URL.RawQuery, host: r.Host,
		authorization: r.Header.Get("Authorization"), byteRange: r.Header.Get("Range"),
		userAgent: r.UserAgent(), proto: r.Proto,
	}
	body := &countingBody{ReadCloser: r.Body}
	r = withBody(r, body)
	cw := &countingWriter{ResponseWriter: w}
	defer func() { // a handler that ends a connection does it by a panic
		e.status, e.sent, e.received = cmp.Or(cw.status, http.StatusOK), cw.n, body.n.Load()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.exchanges = append(t.exchanges, e)
		t.active--
		t.idle.Broadcast()
	}()
	t.next.ServeHTTP(cw, r)
}

// seen returns the exchanges that match all filters, once the server has finished
// with all that it has begun.
func (t *traffic) seen(filters ...func(exchange) bool) []exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.active > 0 {
		t.idle.Wait()
	}
	var found []exchange
	for _, e := range t.exchanges {
		if !slices.ContainsFunc(filters, func(f func(exchange) bool) bool { return !f(e) }) {
			found = append(found, e)
		}
	}
	return found
}

// forget starts the record anew.
func (t *traffic) forget() {
	t.seen()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exchanges = nil
}

// countConnections is an http.Server's ConnState.
func (t *traffic) countConnections(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		t.connections.Add(1)
	}
}

func method(m string) func(exchange) bool { return func(e exchange) bool { return e.method == m } }

func kind(k string) func(exchange) bool { return func(e exchange) bool { return e.kind == k } }

func status(s int) func(exchange) bool { return func(e exchange) bool { return e.status == s } }

func byLibrary(e exchange) bool { return e.userAgent == userAgent }

func sumSent(all []exchange) (n int64) {
	for _, e := range all {
		n += e.sent
	}
	return n
}

func sumReceived(all []exchange) (n int64) {
	for _, e := range all {
		n += e.received
	}
	return n
}

var kinds = []struct {
	path *regexp.Regexp
	kind string
}{
	{regexp.MustCompile(`^/v2/.+/blobs/uploads/`), kindUpload},
	{regexp.MustCompile(`^/v2/.+/blobs/[a-z0-9]+:`), kindBlob},
	{regexp.MustCompile(`^/v2/.+/manifests/`), kindManifest},
}

func kindOf(path string) string {
	for _, k := range kinds {
		if k.path.MatchString(path) {
			return k.kind
		}
	}
	return kindOther
}

// withBody replaces the body in a copy of r: net/http looks at its own one to know whether
// a body that the client offers with Expect: 100-continue was wanted.
func withBody(r *http.Request, body io.ReadCloser) *http.Request {
	if r.Body == http.NoBody {
		return r
	}
	r = r.WithContext(r.Context())
	r.Body = body
	return r
}

type countingBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

type countingWriter struct {
	http.ResponseWriter
	status int // 0 means 200, as in net/http
	n      int64
}

func (w *countingWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK { // 1xx may come before, and a handler may try a second one
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.status = cmp.Or(w.status, http.StatusOK)
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is for handlers that look for an http.Flusher.
func (w *countingWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }
