package wire

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
)

// maxRedirects is the most redirects in one chain, as in net/http.
const maxRedirects = 10

// drainLimit is how much of an answer that nobody wants is read so that its
// connection can be used again: less than a new connection costs.
const drainLimit = 4 << 10 // 4 KiB

// maxOrigins is how many origins on the hosts of the registry and its mirrors are remembered to have
// answered.
const maxOrigins = 64

// Request is what goes to a target.
type Request struct {
	Method string
	Target Target
	Header http.Header

	// Data is a body that is small. Whoever sends the request makes a Body of it.
	Data []byte

	// Body is the body, which the client closes. GetBody opens it once more: a transport sends it again by
	// itself where a connection breaks that it has used before.
	Body    io.ReadCloser
	GetBody func() (io.ReadCloser, error)
	Length  int64

	// Token is a bearer token or, as "Basic <base64>", a user name and password. It is sent while the
	// chain is at the registry's origin.
	Token string

	// NoFollow makes a redirect the answer.
	NoFollow bool

	// NewConn sends the request over a connection that no other has used or will use: what came over another
	// was wrong. It changes nothing where a caller's transport is no *http.Transport.
	NewConn bool

	redirects int         // that were followed
	referral  http.Header // see Response
}

// Response is the answer at the end of a chain of redirects.
type Response struct {
	*http.Response

	// Target is what gave the answer.
	Target Target

	// referral is the header of the last redirect with which the registry itself, at its own origin,
	// led elsewhere. Nil means that it led nowhere.
	referral http.Header
}

// Discard closes the body, and reads what is left of a small one first, so that the connection can be
// used again.
func (r *Response) Discard() {
	if r.Body != http.NoBody { // as of most answers to uploads, and CopyN allocates
		_, _ = io.CopyN(io.Discard, r.Body, drainLimit)
	}
	_ = r.Body.Close()
}

// Detach is Discard, but keeps what the body says of a failure, to be read later.
func (r *Response) Detach() {
	var told bytes.Buffer
	_, _ = io.CopyN(&told, r.Body, maxErrorBody)
	r.Discard()
	r.Body = io.NopCloser(&told)
}

// Client sends requests. It takes from the http.Client that it is made of only the transport and the cookie
// jar: one that judges redirects too would fail at, and quote, a malformed Location.
type Client struct {
	transport http.RoundTripper
	own       *http.Transport // the transport, if the client made it
	guarded   bool            // own is a copy of the caller's
	jar       http.CookieJar
	header    http.Header // of all requests

	mu       sync.Mutex
	answered map[origin]bool // guarded by mu; on the hosts of the registry and its mirrors
}

// NewClient returns a client that sends through the transport of c or, when c is
// nil, through one of its own that keeps up to conns connections.
//
// Of a caller's *http.Transport it uses a copy that checks the addresses it dials. Any other
// RoundTripper is used as it is: which addresses it dials cannot be seen.
func NewClient(c *http.Client, userAgent string, conns int) *Client {
	client := &Client{answered: make(map[origin]bool), header: http.Header{
		"User-Agent": {userAgent},
		// Blobs are hashed as they are stored: a decoded body would not be the blob.
		"Accept-Encoding": {"identity"},
	}}
	if c == nil {
		client.own = NewTransport(conns)
		client.transport = client.own
		return client
	}
	client.transport, client.jar = c.Transport, c.Jar
	if client.transport == nil {
		client.transport = http.DefaultTransport
	}
	if t, ok := client.transport.(*http.Transport); ok {
		client.own, client.guarded = guardTransport(t, conns), true
		client.transport = client.own
	}
	return client
}

// Close closes the idle connections of the client. A caller's transport is left alone.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// Follow turns the request to where an answer leads, by the rules of [Target.Resolve]. It tells whether that
// is somewhere else. The method and the body are kept, and a 303 (RFC 9110 section 15.4.4) is followed only
// by GET and HEAD.
func (r *Request) Follow(resp *Response) (elsewhere bool, err error) {
	if r.NoFollow || !IsRedirect(resp.StatusCode) {
		return false, nil
	}
	resp.Discard()
	if resp.StatusCode == http.StatusSeeOther && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false, fmt.Errorf("%w: 303 to a %s of %s", ErrRedirectRefused, r.Method, Redact(r.Target.URL))
	}
	next, err := r.Target.Resolve(resp.Header.Get("Location"))
	if err != nil {
		return false, err
	}
	if r.Target.atHome() && !next.atHome() {
		r.referral = resp.Header
	}
	r.Target = next
	if r.redirects++; r.redirects > maxRedirects {
		return false, fmt.Errorf("%w: more than %d redirects, the last to %s",
			ErrRedirectRefused, maxRedirects, Redact(next.URL))
	}
	return true, nil
}

// IsRedirect reports whether a status sends the client to a Location.
func IsRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// Send sends the request, and follows no redirect. Whatever status the answer has, it is no error, except
// that of a server that was spoken to with the wrong scheme: ErrWrongScheme.
func (c *Client) Send(ctx context.Context, r Request) (*Response, error) {
	req := c.newRequest(ctx, r)
	cookies := c.jar != nil && !r.Target.Left
	if cookies {
		for _, cookie := range c.jar.Cookies(req.URL) {
			req.AddCookie(cookie)
		}
	}
	resp, err := c.roundTrip(req, r)
	if err != nil {
		return nil, redactError(r, explain(r.Target, err, c.hasAnswered(r.Target)))
	}
	resp.Request = req
	if resp.Body == nil { // net/http's client lets a caller's transport leave it out
		resp.Body = http.NoBody
	}
	if err := checkPlain(r.Target, resp); err != nil {
		return nil, redactError(r, err)
	}
	c.noteAnswer(r.Target)
	if cookies {
		c.jar.SetCookies(req.URL, resp.Cookies())
	}
	return &Response{Response: resp, Target: r.Target, referral: r.referral}, nil
}

// roundTrip sends a request over a connection that there is, or one of its own.
func (c *Client) roundTrip(req *http.Request, r Request) (*http.Response, error) {
	if r.NewConn && c.own != nil {
		return roundTripOnce(c.own.Clone(), req)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil && c.mayHideAlert(r.Target, err) {
		err = cmp.Or(c.hiddenAlert(req.Context(), r.Target), err)
	}
	return resp, err
}

// roundTripOnce sends a request through a transport that is used for nothing else.
func roundTripOnce(t *http.Transport, req *http.Request) (*http.Response, error) {
	t.DisableKeepAlives = true
	resp, err := t.RoundTrip(req)
	if err != nil {
		t.CloseIdleConnections() // ends the dial, which goes on for those who come later
	}
	return resp, err
}

// origin is a scheme, a host and a port.
type origin struct{ scheme, host string }

// noteAnswer remembers that a scheme and port of the registry's host are right.
func (c *Client) noteAnswer(t Target) {
	if !sameHost(t.URL, t.registry.base) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answered) < maxOrigins {
		c.answered[origin{t.URL.Scheme, t.URL.Host}] = true
	}
}

func (c *Client) hasAnswered(t Target) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered[origin{t.URL.Scheme, t.URL.Host}]
}

func (c *Client) newRequest(ctx context.Context, r Request) *http.Request {
	req := &http.Request{
		Method: r.Method, URL: r.Target.URL, Host: r.Target.URL.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(r.Header)+3),
	}
	maps.Copy(req.Header, r.Header)
	maps.Copy(req.Header, c.header)
	if r.Token != "" && !r.Target.Left {
		req.Header.Set("Authorization", Authorization(r.Token))
	}
	if r.Body != nil && r.Length == 0 {
		_ = r.Body.Close()
		req.Body = http.NoBody
	} else if r.Body != nil {
		req.Body, req.GetBody, req.ContentLength = r.Body, r.GetBody, r.Length
	}
	return req.WithContext(c.withDialRule(ctx, r.Target))
}

// Authorization returns the credentials of a token (RFC 7235 section 2.1). A bearer token has no space
// in it (RFC 6750 section 2.1), so "Basic " before it can only be a scheme.
func Authorization(token string) string {
	if basic, ok := cutBasic(token); ok {
		return "Basic " + strings.TrimSpace(basic)
	}
	return "Bearer " + token
}

// IsBasic reports whether a token is a user name and a password (RFC 7617).
func IsBasic(token string) bool {
	_, ok := cutBasic(token)
	return ok
}

func cutBasic(token string) (credentials string, ok bool) {
	scheme, credentials, ok := strings.Cut(token, " ")
	return credentials, ok && strings.EqualFold(scheme, "Basic")
}

// IsBearerToken reports whether a token arrives as the bearer token that it is: it may have in it what a
// header may (RFC 9110 section 5.5), whatever RFC 6750 says, and does not begin as Basic authentication does.
func IsBearerToken(token string) bool {
	return token != "" && !IsBasic(token) &&
		token == strings.TrimSpace(token) && !strings.ContainsFunc(token, isControl)
}

// CheckHeader reports whether a text, which the error calls what, can be sent in a header (RFC 9110 section
// 5.5).
func CheckHeader(what, text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return isControl(r) && r != '\t' }) {
		return fmt.Errorf("%s has a control character in it, such as a line break", what)
	}
	return nil
}

// redactError names the request. An *url.Error, which a transport may return, would quote the
// URL and with it signatures and session states; so would the error of a malformed header.
func redactError(r Request, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var header textproto.ProtocolError
	switch {
	case isMalformedLocation(err):
		err = fmt.Errorf("%w: malformed Location", ErrRedirectRefused)
	case errors.As(err, &header):
		err = errHeader
	}
	return fmt.Errorf("%s %s: %w", r.Method, Redact(r.Target.URL), err)
}

var errHeader = errors.New("malformed header in the answer")

// isMalformedLocation reports whether a transport did not take an answer for a control character in its
// Location. HTTP/1.1 and HTTP/2 say so in words of their own.
func isMalformedLocation(err error) bool {
	text := err.Error()
	return strings.Contains(strings.ToLower(text), `malformed mime header line: "location:`) ||
		strings.Contains(text, `invalid header field value for "location"`)
}
