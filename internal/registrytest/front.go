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
// pathSubstring, go wrong as the script says: the grammar is told by Fault of the public package
// registry/registrytest. A script that cannot be parsed panics.
func (f *front) Fault(method, pathSubstring, script string) *Script {
	s, err := f.TryFault(method, pathSubstring, script)
	if err != nil {
		panic(err.Error())
	}
	return s
}

// TryFault is Fault for scripts that may be wrong.
func (f *front) TryFault(method, pathSubstring, script string) (*Script, error) {
	return f.faults.add(method, pathSubstring, script)
}
