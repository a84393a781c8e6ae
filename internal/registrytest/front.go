package registrytest

import "net/http"

// front is what every handler of this package has before it: the records and the
// faults. Its exported methods are theirs.
type front struct {
	log    *journal
	faults faults
}

func newFront() *front { return &front{log: newJournal()} }

// serve records r, applies the fault whose turn it is, and lets next answer.
func (f *front) serve(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	// A copy, because net/http looks at the body of its own request to know whether the client
	// still waits to be told to send it.
	r = r.WithContext(r.Context())
	x := f.log.observe(w, r)
	defer x.end()
	f.faults.next(x.rec).serve(x, r, next)
}

// Requests returns every request so far, in the order of arrival.
func (f *front) Requests() []Request { return f.log.all() }

// Count returns how many requests had that method and that text in their path or
// query. An empty string matches all.
func (f *front) Count(method, pathSubstring string) int {
	return int(f.log.sum(func(r *Request) int64 {
		if r.matches(method, pathSubstring) {
			return 1
		}
		return 0
	}))
}

// BytesSent returns the bytes of all bodies written in answers.
func (f *front) BytesSent() int64 {
	return f.log.sum(func(r *Request) int64 { return r.SentBytes })
}

// BytesReceived returns the bytes of all request bodies that were read.
func (f *front) BytesReceived() int64 {
	return f.log.sum(func(r *Request) int64 { return r.BodyBytes })
}

// Tokens returns each Authorization value that was shown, once, in the order of
// arrival. See [Request] for where each was shown.
func (f *front) Tokens() []string { return f.log.tokens() }

// InFlight returns how many bodies of blobs are on their way now, down or up.
func (f *front) InFlight() int {
	now, _ := f.log.bodies.counts()
	return now
}

// MaxInFlight returns the most bodies of blobs that were on their way at once.
func (f *front) MaxInFlight() int {
	_, most := f.log.bodies.counts()
	return most
}

// Wait returns when no request is being handled: from then on the records of
// requests that came before stay as they are.
func (f *front) Wait() { f.log.active.wait() }

// Fault makes requests of that method, or of any when it is empty, whose path or query contains
// pathSubstring, go wrong as the script says. Each matching request takes one step; after the last, all is
// well again. Where several scripts match, the one that was set first and is not over takes the request. A
// script that cannot be parsed panics.
//
// A script is a list of steps joined by "->". A step is a fault, or several joined by "+", after an optional
// count: "3*" for three requests, "**" for all that follow. So "2*503->reset(1000)->ok->**delay(2s)+404"
// answers two requests with 503, resets the third after 1000 bytes, leaves the fourth alone, and answers
// every later one with 404 after two seconds.
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
//	flip(n)            ↑   one bit of byte n is wrong
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
func (f *front) Fault(method, pathSubstring, script string) *Script {
	return f.faults.add(method, pathSubstring, script)
}
