package registrytest

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is what a handler saw of one request and what it answered. Of a request
// that is still in flight it is what is known so far.
type Request struct {
	Method   string
	Path     string
	RawQuery string
	Host     string
	Proto    string
	Header   http.Header

	// At is when it arrived, Remote the address it came from.
	At     time.Time
	Remote string

	// BodyBytes is how many bytes of the request's body were read.
	BodyBytes int64

	// SentBytes is how many bytes of a body were written in answer.
	SentBytes int64

	// Status is the status of the answer, 0 when there was none.
	Status int
}

func (r *Request) matches(method, part string) bool {
	return (method == "" || method == r.Method) && strings.Contains(r.target(), part)
}

func (r *Request) target() string {
	if r.RawQuery == "" {
		return r.Path
	}
	return r.Path + "?" + r.RawQuery
}

// journal keeps the requests of a handler, in the order of their arrival.
type journal struct {
	active *tally // requests
	bodies *tally // blob bodies, in either direction

	mu       sync.Mutex // guards the field that follows and what it points to
	requests []*Request
}

func newJournal() *journal { return &journal{active: newTally(), bodies: newTally()} }

// begin records the arrival of r.
func (l *journal) begin(r *http.Request) *Request {
	rec := &Request{
		Method: r.Method, Path: r.URL.Path, RawQuery: r.URL.RawQuery,
		Host: r.Host, Proto: r.Proto, Header: r.Header.Clone(), At: time.Now(), Remote: r.RemoteAddr,
	}
	l.active.add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, rec)
	return rec
}

func (l *journal) update(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *journal) all() []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Request, len(l.requests))
	for i, r := range l.requests {
		out[i] = *r
		out[i].Header = r.Header.Clone()
	}
	return out
}

func (l *journal) sum(f func(*Request) int64) (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.requests {
		n += f(r)
	}
	return n
}

func (l *journal) tokens() []string {
	var seen []string
	for _, r := range l.all() {
		for _, v := range r.Header.Values("Authorization") {
			if !slices.Contains(seen, v) {
				seen = append(seen, v)
			}
		}
	}
	return seen
}

// exchange is one request under observation: it counts both bodies.
type exchange struct {
	http.ResponseWriter
	log    *journal
	rec    *Request
	body   io.ReadCloser
	moving bool // counted among the bodies in flight
}

var _ http.ResponseWriter = (*exchange)(nil)

func (l *journal) observe(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{ResponseWriter: w, log: l, rec: l.begin(r), body: r.Body}
	r.Body = x.requestBody()
	return x
}

// end takes the exchange off the counts, whatever became of it.
func (x *exchange) end() {
	if x.moving {
		x.log.bodies.add(-1)
	}
	x.log.active.add(-1)
}

// Unwrap lets http.ResponseController flush.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader records the status before the client can see it.
func (x *exchange) WriteHeader(status int) {
	if status >= 200 {
		x.log.update(func() { x.rec.Status = status })
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write counts the bytes before the client can see them, and takes those back that could not be written.
func (x *exchange) Write(p []byte) (int, error) {
	if x.rec.Status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if x.rec.Method == http.MethodHead { // net/http sends nothing of it
		return x.ResponseWriter.Write(p)
	}
	if x.rec.Method == http.MethodGet && x.rec.Status < 300 {
		x.move()
	}
	x.log.update(func() { x.rec.SentBytes += int64(len(p)) })
	n, err := x.ResponseWriter.Write(p)
	x.log.update(func() { x.rec.SentBytes -= int64(len(p) - n) })
	return n, err
}

func (x *exchange) move() {
	if x.moving || !strings.Contains(x.rec.Path, "/blobs/") {
		return
	}
	x.moving = true
	x.log.bodies.add(1)
}

func (x *exchange) requestBody() io.ReadCloser {
	return &body{ReadCloser: x.body, read: func(p []byte) (int, error) {
		n, err := x.body.Read(p)
		if n > 0 {
			x.move()
		}
		x.log.update(func() { x.rec.BodyBytes += int64(n) })
		return n, err
	}}
}

// body is a request body that is read through a function.
type body struct {
	io.ReadCloser
	read func([]byte) (int, error)
}

// Read reads through the function.
func (b *body) Read(p []byte) (int, error) { return b.read(p) }
