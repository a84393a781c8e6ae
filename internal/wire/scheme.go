package wire

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// ErrWrongScheme is the error of a request by HTTPS to a port that speaks plain HTTP, of one by plain
// HTTP to a port that speaks TLS, and of one to another port or scheme of the registry's own host to
// which the registry led and where nobody listens. The message says what to check. It is permanent.
var ErrWrongScheme = errors.New("wrong scheme or port")

// proxyHint says why a registry leads to a wrong scheme or port of its own host: it makes URLs of what
// the proxy before it has passed on.
const proxyHint = "check Host and X-Forwarded-Proto as the proxy before the registry passes them on"

// otherPort reports whether the target is on the host of the registry's base URL, but by another scheme
// or port. A proxy before the registry that does not pass on Host or X-Forwarded-Proto makes such ones.
func (t Target) otherPort() bool {
	return t.registry != nil && sameHost(t.URL, t.registry.base) && !sameOrigin(t.URL, t.registry.base)
}

// Secure returns the https URL that is to be the base URL where the registry redirects its http one to https,
// as the target shows, and else "".
func (t Target) Secure() string {
	base := t.registry.base
	if !t.registry.trusted || base.Scheme != "http" || t.URL.Scheme != "https" || !sameHost(t.URL, base) {
		return ""
	}
	return "https://" + t.URL.Host + strings.TrimRight(base.Path, "/")
}

// downgradeHint is what to check when the target leads to the same host by plain HTTP.
func (t Target) downgradeHint(u *url.URL) string {
	if !sameHost(t.URL, u) {
		return ""
	}
	return " (" + proxyHint + ")"
}

// schemeError is ErrWrongScheme with what is wrong, and what to check.
type schemeError struct {
	what, check string
	atHome      bool // it is the base URL that is wrong
}

func (e *schemeError) Error() string {
	return fmt.Sprintf("%v: %s (%s)", ErrWrongScheme, e.what, e.check)
}
func (e *schemeError) Unwrap() error { return ErrWrongScheme }

// Advice says what a program may do, as it is in brackets at the end of the message. It is empty where the
// registry led to the wrong place, for which the program is not to blame.
func (e *schemeError) Advice() string {
	if !e.atHome {
		return ""
	}
	return e.check
}

// wrongScheme says what is wrong, and what to check.
func wrongScheme(t Target, what string) error {
	e := &schemeError{what: what, check: "check the scheme and the port", atHome: t.atHome()}
	switch {
	case e.atHome:
		e.check += " of the base URL"
	case t.otherPort():
		e.check = "the registry led there; " + proxyHint
	}
	return e
}

// explain adds ErrWrongScheme to the error of a transport if the scheme or the port of the target is
// the cause. A port that has answered before is not wrong: its server is down, or another is in its place
// for a moment.
func explain(t Target, err error, answered bool) error {
	var why error
	switch {
	case answered:
		return err
	case isPlainAnswer(err):
		why = wrongScheme(t, "the server speaks plain HTTP there")
	case isTLSAnswer(t.URL, err):
		why = wrongScheme(t, speaksTLS)
	case t.otherPort() && isRefused(err):
		why = wrongScheme(t, "nobody listens there")
	default:
		return explainTLS(err)
	}
	return fmt.Errorf("%w: %w", why, err)
}

// wsaECONNREFUSED is what Windows says for ECONNREFUSED. No other system has this number.
const wsaECONNREFUSED = syscall.Errno(10061)

func isRefused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaECONNREFUSED)
}

const speaksTLS = "the server speaks TLS there"

// isPlainAnswer reports whether a TLS handshake failed because the answer was plain HTTP. A proxy that
// is spoken to with the wrong scheme is not the target's affair.
func isPlainAnswer(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "proxyconnect" {
		return false
	}
	var header tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &header) && bytes.Equal(header.RecordHeader[:], []byte("HTTP/"))
}

// isTLSAnswer reports whether plain HTTP was answered with a TLS alert (RFC 8446 section 5.1: type 21,
// version 3.x). net/http has no type for an answer that is not HTTP, but quotes its beginning.
func isTLSAnswer(u *url.URL, err error) bool {
	return u.Scheme == "http" && strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`)
}

// maxPeek is how much of a 400 is read to see what it complains of.
const maxPeek = 1 << 10 // 1 KiB

// plainComplaints are what TLS servers answer to plain HTTP: those in Go, nginx, Apache.
var plainComplaints = []string{
	"client sent an http request to an https server",
	"the plain http request was sent to https port",
	"speaking plain http to an ssl-enabled server port",
}

// checkPlain returns ErrWrongScheme for a 400 that says that the port speaks TLS, and closes its body.
// Any other answer keeps its whole body.
func checkPlain(t Target, resp *http.Response) error {
	if resp.StatusCode != http.StatusBadRequest || t.URL.Scheme != "http" {
		return nil
	}
	start, err := io.ReadAll(io.LimitReader(resp.Body, maxPeek))
	text := strings.ToLower(string(start))
	for _, complaint := range plainComplaints {
		if strings.Contains(text, complaint) {
			_ = resp.Body.Close()
			return wrongScheme(t, speaksTLS)
		}
	}
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failingReader{err}
	}
	resp.Body = peekedBody{io.MultiReader(bytes.NewReader(start), rest), resp.Body}
	return nil
}

type peekedBody struct {
	io.Reader
	io.Closer
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
