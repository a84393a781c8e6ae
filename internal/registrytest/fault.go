package registrytest

import (
	"errors"
	"io"
	"net/http"
	"strconv"
)

// fill is what bodies are made of that nobody asked for.
const fill = "registrytest filler. "

// serve answers r as planned: with next where the answer is the real one.
func (p plan) serve(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	if !pause(r, p.delay) {
		panic(http.ErrAbortHandler)
	}
	for range p.hints {
		w.WriteHeader(http.StatusEarlyHints)
	}
	p.aim(r)
	d := newDamage(w, r, &p)
	r = p.ask(r)
	r.Body = d.requestBody(r.Body)
	if p.readAll {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	switch {
	case p.swallow:
		next(newVoid(), r)
		d.checkRequest()
		p.replace(d, r)
	case p.instead != insteadNothing:
		p.replace(d, r)
	default:
		next(d, r)
	}
	d.finish()
}

// aim points the faults that may be meant for either body at one of them.
func (p *plan) aim(r *http.Request) {
	if p.either.how == endNever {
		return
	}
	if hasBody(r) {
		p.request = p.either
		return
	}
	p.answer = p.either
}

func hasBody(r *http.Request) bool { return r.ContentLength != 0 }

// ask returns r with the Range header that it is taken to have.
func (p *plan) ask(r *http.Request) *http.Request {
	if p.asked == nil {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Del("Range")
	if *p.asked != "" {
		r.Header.Set("Range", *p.asked)
	}
	return r
}

// replace answers in place of the registry.
func (p *replacement) replace(d *damage, r *http.Request) {
	switch p.instead {
	case insteadHangup:
		d.end(endAbort)
	case insteadReset:
		d.end(endConn)
	case insteadStall:
		io.Copy(io.Discard, r.Body)
		d.checkRequest()
		d.end(endStall)
	case insteadHints:
		for pause(r, p.hintEvery) {
			d.WriteHeader(http.StatusEarlyHints)
		}
		panic(http.ErrAbortHandler)
	case insteadStatus:
		p.answerStatus(d, p.status)
	default:
		p.answerStatus(d, http.StatusInternalServerError)
	}
}

func (p *replacement) answerStatus(d *damage, status int) {
	switch {
	case p.errorBody >= 0:
		if p.errorBody != endless {
			d.Header().Set("Content-Length", strconv.FormatInt(p.errorBody, 10))
		}
		d.WriteHeader(status)
		d.pad(p.errorBody)
	case p.payload != "":
		d.Header().Set("Content-Length", strconv.Itoa(len(p.payload)))
		d.WriteHeader(status)
		_, _ = io.WriteString(d, p.payload)
	case status >= 400:
		writeError(d, status, ociError{Code: "UNKNOWN", Message: "injected fault"})
	case status == http.StatusNoContent || status == http.StatusNotModified:
		d.WriteHeader(status)
	default:
		d.Header().Set("Content-Length", "0")
		d.WriteHeader(status)
	}
}

// errBodyCut is what a handler reads from a request body that was cut.
var errBodyCut = errors.New("request body cut by a fault")

// void takes an answer that nobody is to see.
type void struct{ header http.Header }

var _ http.ResponseWriter = (*void)(nil)

func newVoid() *void { return &void{header: http.Header{}} }

// Header returns headers that go nowhere.
func (v *void) Header() http.Header { return v.header }

// Write drops p.
func (v *void) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader drops the status.
func (v *void) WriteHeader(int) {}
