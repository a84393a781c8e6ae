// Package registrytest is an OCI registry in memory, for the tests of programs that pull and push. It is used
// as a server of net/http/httptest is, goes wrong as it is told, and remembers what it was asked for:
//
//	server := registrytest.New(registrytest.Options{})
//	defer server.Close()
//	blob := server.PutBlob("library/model", data)
//	err := server.Fault("GET", blob, "503->reset(300K)")
//	// … the program pulls from server.URL …
//	fmt.Println(server.Count("GET", blob)) // 3: refused, broken off, continued
//
// It takes uploads in a session and in chunks, mounts, ranges, tags, referrers and deletion, as the
// distribution specification has them, and lists its repositories. What it holds is gone when the process
// ends. It listens on loopback only. A program that is no test, such as a fake for programs in another
// language, may use it too: it adds no flags.
package registrytest

import (
	"encoding/json"
	"net/http"

	godigest "github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// Options say what a registry wants. The zero value is one that lets everyone in, over http.
type Options struct {
	// Username and Password are wanted of everyone, with Basic authentication. An empty Username lets
	// everyone in.
	Username, Password string

	// Tokens wants a bearer token with each request, which /token of this server gives for Username and
	// Password: for anything, to anyone, where Username is empty. A token is good for the repositories and
	// the actions, pull or push, of its scopes.
	Tokens bool

	// TLS serves https, with a certificate that Client of the server trusts.
	TLS bool
}

// Server is a registry that is served on loopback. It may be used by several goroutines at once.
type Server struct {
	// URL is the base URL, without a slash at its end.
	URL string

	// Client reaches this server and no other, with TLS too. Without TLS any client will do.
	Client *http.Client

	registry *registrytest.Registry
	server   *registrytest.Server
}

// New serves an empty registry, until Close. Like [net/http/httptest.NewServer] it panics where it cannot
// listen.
func New(opts Options) *Server {
	reg := registrytest.New(guard(opts))
	mode := registrytest.H1
	if opts.TLS {
		mode = registrytest.H1TLS
	}
	server, err := registrytest.Start(reg, mode)
	if err != nil {
		panic("registrytest: " + err.Error())
	}
	return &Server{URL: server.URL, Client: server.Client, registry: reg, server: server}
}

// Close ends the server. Requests that are being answered are cut off, and nothing of it runs when Close
// returns. What it holds and was asked for can still be read. It may be called again.
func (s *Server) Close() {
	s.server.Close()
	s.Client.CloseIdleConnections()
}

// PutBlob stores a blob in a repository and returns its digest, "sha256:…". The registry keeps data, which
// must not be changed any more.
func (s *Server) PutBlob(repository string, data []byte) string {
	return s.registry.Put(repository, data).String()
}

// Blob returns a blob that a repository has, and whether it has it. It must not be changed.
func (s *Server) Blob(repository, digest string) ([]byte, bool) {
	if !s.registry.Has(repository, godigest.Digest(digest)) {
		return nil, false
	}
	return s.registry.Blob(godigest.Digest(digest))
}

// PutManifest stores a manifest under a tag, or under its digest alone where the tag is empty, and returns
// its digest. The media type is the one that it names, or that of an OCI manifest. Nothing is checked:
// neither that it is a manifest, nor that its blobs are there.
func (s *Server) PutManifest(repository, tag string, data []byte) string {
	dg := godigest.FromBytes(data)
	ref := tag
	if ref == "" {
		ref = dg.String()
	}
	s.registry.PutManifest(repository, ref, mediaType(data), data)
	return dg.String()
}

func mediaType(manifest []byte) string {
	var named struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(manifest, &named) != nil || named.MediaType == "" {
		return "application/vnd.oci.image.manifest.v1+json"
	}
	return named.MediaType
}

// Manifest returns the manifest that a repository has under a tag or digest, and whether there is one. It
// must not be changed.
func (s *Server) Manifest(repository, reference string) ([]byte, bool) {
	return s.registry.Manifest(repository, reference)
}

// Request is what the registry saw of one request, and what it answered. Of a request that is still being
// answered it is what is known so far.
type Request struct {
	Method   string
	Path     string
	RawQuery string
	Header   http.Header
	Status   int   // 0 where there was no answer
	Received int64 // bytes of its body that were read
	Sent     int64 // bytes of a body that were written in answer
}

// Requests returns every request so far, in the order in which they came: those for tokens, those that were
// refused and those that went wrong too.
func (s *Server) Requests() []Request {
	var all []Request
	for _, r := range s.registry.Requests() {
		all = append(all, Request{
			Method: r.Method, Path: r.Path, RawQuery: r.RawQuery, Header: r.Header,
			Status: r.Status, Received: r.BodyBytes, Sent: r.SentBytes,
		})
	}
	return all
}

// Count returns how many requests had that method, and path in their path or query. An empty string matches
// all.
func (s *Server) Count(method, path string) int { return s.registry.Count(method, path) }

// Fault makes requests of that method, or of any when it is empty, whose path or query contains path, go
// wrong as the script says. Each of them takes one step, also one that would have been refused for its token;
// after the last step all is well again. Where several scripts match, the one that was set first and is not
// over takes the request. The error names what of a script cannot be understood.
//
// A script is a list of steps joined by "->". A step is a fault, or several joined by "+", after an optional
// count: "3*" for three requests, "**" for all that follow. So "2*503->reset(1000)->ok->**delay(2s)+404"
// answers two requests with 503, resets the third after 1000 bytes, leaves the fourth alone, and answers
// every later one with 404 after two seconds: ok is the step with no fault.
//
// Sizes are in bytes and may end in K, M or G (binary); durations are Go's. A fault that speaks of a body
// means the request's where the request has one and the fault is marked ↑, and the answer's otherwise; an n
// beyond its end means its end. In the answer, n counts from the first byte of this answer.
//
// The answer is replaced; the body of the request is not read, except by stallheaders:
//
//	404                    any status but 206, with an OCI error as its body from 400 on
//	429(retry-after: 2; x: y)  the same with headers
//	status(429, x: y)      the same
//	redirect(url)          307 to url; others as 302(location: url)
//	says(403, text)        a status with that text as its body: any but 204, 206 and 304
//	errorbody(n)           the status (500 alone) with a body of n bytes, or "endless"
//	page                   200 with a web page, as from a captive portal
//	s3(400 ExpiredToken)   a status with an error body of an object store
//	hinting(1s)            an informational answer each second until the client goes away
//	hangup                 the connection is closed without an answer
//	reset                  the connection is reset without an answer
//	stallheaders           the whole body is read, then nothing happens
//
// The real answer, damaged:
//
//	206                    its status is 206, without a Content-Range unless a Range was asked for
//	header(x: y; -z)       header x added, z removed
//	range(text; text)      206 with these Content-Range headers, or with none
//	asked(bytes=5-9)       the request is taken to have asked for this Range
//	norange                the request is taken to have asked for none
//	encoding(gzip)         Content-Encoding says so and, for gzip, it is true
//	chunked                no Content-Length
//	clen(n)                Content-Length is n, whatever the body's length
//	headerbomb(n)          n more bytes of headers
//	hints(n)               n informational answers come first
//	goaway                 the connection is closed after it, in HTTP/2 with GOAWAY
//	reset(n)           ↑   the connection (HTTP/2: the stream) is reset after n bytes
//	connreset(n)           the connection is reset after n bytes, in HTTP/2 after at most n
//	eof(n)                 the body ends after n bytes, though its Content-Length says more
//	noclen(n)              the same without Content-Length; "noclen" alone sends the whole body
//	truncchunk(n)          the same in chunks, the last one missing
//	stall(n)               nothing comes after n bytes until the client goes away
//	long(n)                n bytes too many, without Content-Length
//	endless                the same for ever
//	flip(n)            ↑   one bit of byte n is wrong, where there is such a byte
//	slow(n)            ↑   n bytes per second
//
// The body of the request:
//
//	cut(n)                 the connection is closed after n bytes
//	stallbody(n)           nothing is read after n bytes until the client goes away; in
//	                       HTTP/1.1 over sockets that is not noticed before the server closes
//	swallow                what was asked is done, but the answer is 500, or what
//	                       else the step says: swallow+504, swallow+reset, swallow+stallheaders
//	read                   the whole body is read before the answer is replaced: read+307
//
// And delay(250ms), before anything else, and late(2s), before the answer begins.
//
// A client may send a request of its own accord again when a connection it had used before breaks before the
// answer began, as net/http does: that request takes a step too.
func (s *Server) Fault(method, path, script string) error {
	_, err := s.registry.TryFault(method, path, script)
	return err
}
