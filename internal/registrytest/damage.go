package registrytest

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"time"
)

// damage is the ResponseWriter that does to an answer, and to the body of its request, what the plan says.
type damage struct {
	w    http.ResponseWriter
	r    *http.Request
	plan *plan

	wroteHeader bool
	muted       bool // the body has ended, whatever is still written
	sent        int64
	read        int64 // of the request's body
	broken      bool  // the request's body was cut
	body        io.Reader
	packed      *gzip.Writer
}

var _ http.ResponseWriter = (*damage)(nil)

func newDamage(w http.ResponseWriter, r *http.Request, p *plan) *damage {
	d := &damage{w: w, r: r, plan: p}
	if p.gzip {
		d.packed = gzip.NewWriter(writerFunc(d.emit))
	}
	return d
}

// writerFunc is an io.Writer in one function.
type writerFunc func([]byte) (int, error)

// Write calls the function.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Header returns the headers of the answer.
func (d *damage) Header() http.Header { return d.w.Header() }

// WriteHeader sends the headers as the plan wants them. After the body of the
// request was cut there is no answer any more.
func (d *damage) WriteHeader(status int) {
	d.checkRequest()
	if status < 200 {
		d.w.WriteHeader(status)
		return
	}
	if d.wroteHeader {
		return
	}
	if !pause(d.r, d.plan.late) {
		panic(http.ErrAbortHandler)
	}
	d.wroteHeader = true
	if d.plan.relabel != 0 && status < 300 {
		status = d.plan.relabel
	}
	d.plan.setLength(d.Header(), d.r.ProtoMajor)
	d.plan.apply(d.Header())
	d.w.WriteHeader(status)
	if d.plan.length == lengthChunked || d.plan.length == lengthNone {
		d.flush() // or a short body would get a Content-Length from net/http
	}
}

// Write writes p, damaged. What comes after a clean end is dropped.
func (d *damage) Write(p []byte) (int, error) {
	if !d.wroteHeader {
		d.WriteHeader(http.StatusOK)
	}
	if d.packed != nil {
		return d.packed.Write(p)
	}
	return d.emit(p)
}

func (d *damage) emit(p []byte) (int, error) {
	whole := len(p)
	end := d.plan.answer
	if end.how != endNever {
		p = p[:min(int64(len(p)), max(0, end.at-d.sent))]
	}
	if d.muted {
		return whole, nil
	}
	if !hasBody(d.r) {
		p = flipped(p, d.plan.flip-d.sent)
	}
	n, err := d.paced(p)
	d.sent += int64(n)
	if err != nil {
		return n, err
	}
	if end.how != endNever && d.sent >= end.at {
		d.end(end.how)
	}
	return whole, nil
}

// flipped returns a copy of p in which one bit of the byte at that offset is wrong,
// or p where the offset is not in it.
func flipped(p []byte, at int64) []byte {
	if at < 0 || at >= int64(len(p)) {
		return p
	}
	p = append([]byte(nil), p...)
	p[at] ^= 1
	return p
}

// tick is how often a slow body moves.
const tick = 100 * time.Millisecond

// stride returns how many bytes move in one go at that speed, and how long that takes.
func stride(speed int64) (int, time.Duration) {
	n := max(1, speed/int64(time.Second/tick))
	return int(n), time.Duration(n) * time.Second / time.Duration(speed)
}

func (d *damage) paced(p []byte) (int, error) {
	if d.plan.speed == 0 || hasBody(d.r) {
		return d.w.Write(p)
	}
	n, wait := stride(d.plan.speed)
	sent := 0
	for sent < len(p) {
		if !pause(d.r, wait) {
			panic(http.ErrAbortHandler)
		}
		m, err := d.w.Write(p[sent:min(len(p), sent+n)])
		sent += m
		if err != nil {
			return sent, err
		}
		d.flush()
	}
	return sent, nil
}

// pad writes n bytes that nobody asked for. When the client is gone it breaks
// off, for a return would end the body in good order.
func (d *damage) pad(n int64) {
	if d.r.Method == http.MethodHead { // net/http would take an endless body, and send nothing of it
		return
	}
	block := []byte(strings.Repeat(fill, 1500))
	for n > 0 && !d.muted {
		part := block[:min(n, int64(len(block)))]
		if _, err := d.Write(part); err != nil || d.r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
		n -= int64(len(part))
	}
}

// finish does what is left to do when the handler has returned.
func (d *damage) finish() {
	d.checkRequest()
	if !d.wroteHeader {
		d.WriteHeader(http.StatusOK)
	}
	if d.packed != nil {
		d.packed.Close()
	}
	d.pad(d.plan.extra)
	if !d.muted {
		d.end(d.plan.answer.how)
	}
}

// end ends the answer in that way. It returns only when the rest of the
// handler's answer is to be dropped, or when nothing ends.
func (d *damage) end(how ending) {
	switch how {
	case endNever:
		return
	case endClean:
		d.muted = true
		return
	}
	if d.wroteHeader {
		d.flush()
	}
	d.breakOff(how)
	panic(http.ErrAbortHandler)
}

// breakOff does to the connection what that ending means; closing it is left to the panic of the handler.
func (d *damage) breakOff(how ending) {
	switch {
	case how == endStall:
		await(d.r)
	case how == endConn, how == endReset && d.r.ProtoMajor == 1:
		linkOf(d.r).reset()
	}
}

func (d *damage) flush() { http.NewResponseController(d.w).Flush() }

// checkRequest ends the exchange when the body of the request is cut, after the registry has kept what came
// before. What the registry did not want to read is read here, so that the cut happens.
func (d *damage) checkRequest() {
	if d.plan.request.how != endNever && !d.broken {
		io.Copy(io.Discard, d.body)
	}
	if d.broken {
		panic(http.ErrAbortHandler)
	}
}

// requestBody wraps the body of the request.
func (d *damage) requestBody(from io.ReadCloser) io.ReadCloser {
	p := d.plan
	if p.request.how == endNever && p.flip < 0 && p.speed == 0 {
		return from
	}
	damaged := &body{ReadCloser: from, read: func(b []byte) (int, error) { return d.readBody(from, b) }}
	d.body = damaged
	return damaged
}

func (d *damage) readBody(from io.Reader, b []byte) (int, error) {
	end := d.plan.request
	if end.how != endNever {
		if d.read >= end.at {
			return 0, d.cutBody()
		}
		b = b[:min(int64(len(b)), end.at-d.read)]
	}
	if d.plan.speed > 0 {
		n, wait := stride(d.plan.speed)
		b = b[:min(len(b), n)]
		if !pause(d.r, wait) {
			return 0, errBodyCut
		}
	}
	n, err := from.Read(b)
	copy(b, flipped(b[:n], d.plan.flip-d.read))
	d.read += int64(n)
	if err == io.EOF && end.how != endNever {
		return n, d.cutBody()
	}
	return n, err
}

func (d *damage) cutBody() error {
	if !d.broken {
		d.broken = true
		d.breakOff(d.plan.request.how)
	}
	return errBodyCut
}
