package registrytest

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ending is how a body ends before its time.
type ending int

const (
	endNever ending = iota
	endClean        // no more bytes, as if that had been all
	endAbort        // the connection is closed
	endReset        // the connection is reset, in HTTP/2 the stream
	endConn         // the connection is reset, in HTTP/2 too
	endStall        // nothing more happens
)

// cut is an ending after so many bytes.
type cut struct {
	at  int64
	how ending
}

// instead is what happens in place of the real answer.
type instead int

const (
	insteadNothing instead = iota
	insteadStatus
	insteadHangup
	insteadReset
	insteadStall
	insteadHints
)

// length is what an answer says of its body's length.
type length int

const (
	lengthTrue length = iota
	lengthForged
	lengthChunked
	lengthNone // the body ends with the connection
)

// headerEdit adds a header, or removes it when drop is set.
type headerEdit struct {
	name, value string
	drop        bool
}

// endless is the length of a body that never ends.
const endless = math.MaxInt64

// plan is what goes wrong with one request: the faults of a step together.
type plan struct {
	replacement
	head
	bodies

	used    bool // a request has had it
	delay   time.Duration
	hints   int64         // informational answers before the answer
	late    time.Duration // before it begins
	asked   *string       // the Range header taken for the client's
	readAll bool
	swallow bool
}

// replacement is the answer in place of the real one.
type replacement struct {
	instead   instead
	status    int
	errorBody int64 // its length; -1: the usual one
	payload   string
	hintEvery time.Duration
}

// head is what is wrong with the status and the headers of the real answer.
type head struct {
	relabel int // its status
	edits   []headerEdit
	bomb    int64 // bytes of more headers

	length        length
	contentLength int64
}

// bodies is what is wrong with a body on its way.
type bodies struct {
	answer  cut   // of the answer's body
	request cut   // of the request's body
	either  cut   // of the request's body if there is one
	extra   int64 // bytes that follow the answer's body
	flip    int64 // -1: none
	speed   int64 // bytes per second, 0: unlimited
	gzip    bool
}

func newPlan() plan {
	return plan{replacement: replacement{errorBody: -1}, bodies: bodies{flip: -1}}
}

// edit adds a header. It is for the parser of a script only: the copies of a plan share the slice.
func (h *head) edit(name, value string) {
	h.edits = append(h.edits, headerEdit{name: name, value: value})
}

func (h *head) drop(name string) {
	h.edits = append(h.edits, headerEdit{name: name, drop: true})
}

// check refuses steps whose faults cannot happen together.
func (p *plan) check(text string) error {
	replaced := p.instead != insteadNothing && !p.swallow
	damaged := p.relabel != 0 || p.asked != nil || p.gzip || p.extra > 0 || p.request.how != endNever
	if replaced && damaged {
		return fmt.Errorf("%q: what is replaced cannot be damaged too", strings.TrimSpace(text))
	}
	return nil
}

// apply makes the edits: a header that is set more than once is sent more than
// once, but replaces what the registry would have said.
func (h *head) apply(to http.Header) {
	fresh := map[string]bool{}
	for _, e := range h.edits {
		key := http.CanonicalHeaderKey(e.name)
		if e.drop || !fresh[key] {
			to.Del(key)
		}
		if !e.drop {
			to.Add(key, e.value)
			fresh[key] = true
		}
	}
	h.plant(to)
}

// bombLine is the length of one header of a bomb, which many servers and clients would take.
const bombLine = 1 << 10

func (h *head) plant(to http.Header) {
	for i := int64(0); i*bombLine < h.bomb; i++ {
		n := min(bombLine, h.bomb-i*bombLine)
		to.Set("X-Bomb-"+strconv.FormatInt(i, 10), strings.Repeat("b", int(n)))
	}
}

// setLength makes the answer say what the plan wants about its length.
func (h *head) setLength(to http.Header, proto int) {
	switch h.length {
	case lengthForged:
		to.Set("Content-Length", strconv.FormatInt(h.contentLength, 10))
	case lengthChunked:
		to.Del("Content-Length")
	case lengthNone:
		to.Del("Content-Length")
		if proto == 1 {
			to.Set("Transfer-Encoding", "identity") // net/http: neither chunks nor a length
		}
	}
}
