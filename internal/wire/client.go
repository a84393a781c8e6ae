package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// maxRedirects is the most redirects in one chain, as in net/http.
const maxRedirects = 10

// drainLimit is how much of an answer that nobody wants is read so that its
// connection can be used again: less than a new connection costs.
const drainLimit = 4 << 10 // 4 KiB

// continueTimeout is how long a body waits for the server to ask for it. Not all do.
const continueTimeout = time.Second

// Request is what goes to a target.
type Request struct {
	Method string
	Target Target
	Header http.Header

	// Body returns the body from its beginning, each time it is called; it is
	// called again when a redirect asks for the body elsewhere. Nil means none.
	Body   func() (io.ReadCloser, error)
	Length int64

	// Token is the bearer token. It is sent while the chain is at the registry's
	// origin.
	Token string

	// NoFollow makes a redirect the answer.
	NoFollow bool

	// Before is called before the request is sent, and before each redirect is followed, with what is sent then. It
	// may wait, and may change the token. Its error ends the chain. Nil means that nothing is to be done.
	Before func(ctx context.Context, r *Request) error
}

// Response is the answer at the end of a chain of redirects.
type Response struct {
	*http.Response

	// Target is what gave the answer.
	Target Target
}

// Discard closes the body, and reads what is left of a small one first, so that the connection can be
// used again.
func (r *Response) Discard() {
	_, _ = io.CopyN(io.Discard, r.Body, drainLimit)
	_ = r.Body.Close()
}

// Client sends requests. It follows redirects itself, and takes from the http.Client that it is
// made of only the transport and the cookie jar: one that judges redirects too would fail at, and
// quote, a malformed Location.
type Client struct {
	transport http.RoundTripper
	jar       http.CookieJar
	userAgent string
	own       *http.Transport

	once    sync.Once
	patient *http.Transport // nil before the first request that needs it
}

// NewClient returns a client that sends through the transport of c or, when c is
// nil, through one of its own that keeps up to conns connections.
func NewClient(c *http.Client, userAgent string, conns int) *Client {
	if c == nil {
		own := newTransport(conns)
		return &Client{transport: own, own: own, userAgent: userAgent}
	}
	client := &Client{transport: c.Transport, jar: c.Jar, userAgent: userAgent}
	if client.transport == nil {
		client.transport = http.DefaultTransport
	}
	return client
}

// Close closes what the client keeps open. A caller's transport is left alone.
func (c *Client) Close() {
	for _, t := range []*http.Transport{c.own, c.patient} {
		if t != nil {
			t.CloseIdleConnections()
		}
	}
}

// Do sends the request and follows redirects, whose rules are those of
// [Target.Resolve]. The method and the body are kept, and a 303 (RFC 9110 section
// 15.4.4) is followed only by GET and HEAD. Whatever status ends the chain is an
// answer, not an error.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	for range maxRedirects + 1 {
		if r.Before != nil {
			if err := r.Before(ctx, &r); err != nil {
				return nil, err
			}
		}
		resp, err := c.send(ctx, r)
		if err != nil {
			return nil, err
		}
		if r.NoFollow || !IsRedirect(resp.StatusCode) {
			return resp, nil
		}
		resp.Discard()
		if resp.StatusCode == http.StatusSeeOther && r.Method != http.MethodGet && r.Method != http.MethodHead {
			return nil, fmt.Errorf("%w: 303 to a %s of %s", ErrRedirectRefused, r.Method, Redact(r.Target.URL))
		}
		if r.Target, err = r.Target.Resolve(resp.Header.Get("Location")); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: more than %d redirects, the last to %s", ErrRedirectRefused, maxRedirects, Redact(r.Target.URL))
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

func (c *Client) send(ctx context.Context, r Request) (*Response, error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	cookies := c.jar != nil && !r.Target.Left
	if cookies {
		for _, cookie := range c.jar.Cookies(req.URL) {
			req.AddCookie(cookie)
		}
	}
	resp, err := c.transportFor(req).RoundTrip(req)
	if err != nil {
		return nil, redactError(r, err)
	}
	resp.Request = req
	if resp.Body == nil { // net/http's client lets a caller's transport leave it out
		resp.Body = http.NoBody
	}
	if cookies {
		c.jar.SetCookies(req.URL, resp.Cookies())
	}
	return &Response{Response: resp, Target: r.Target}, nil
}

// transportFor returns the caller's transport, or a patient copy of one that sends a body at once though the request
// says that it will wait to be asked for it (RFC 9110 section 10.1.1): an answer that does not want the body, such as a
// redirect, would cost it, and often the connection with the answer on it.
func (c *Client) transportFor(req *http.Request) http.RoundTripper {
	hasty, ok := c.transport.(*http.Transport)
	if !ok || hasty.ExpectContinueTimeout > 0 || req.Header.Get("Expect") == "" {
		return c.transport
	}
	c.once.Do(func() {
		c.patient = hasty.Clone()
		c.patient.ExpectContinueTimeout = continueTimeout
	})
	return c.patient
}

func (c *Client) newRequest(ctx context.Context, r Request) (*http.Request, error) {
	req := (&http.Request{
		Method: r.Method, URL: r.Target.URL, Host: r.Target.URL.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.Header.Clone(),
	})
	if req.Header == nil {
		req.Header = make(http.Header, 3)
	}
	req.Header.Set("User-Agent", c.userAgent)
	// Blobs are hashed as they are stored: a decoded body would not be the blob.
	req.Header.Set("Accept-Encoding", "identity")
	if r.Token != "" && !r.Target.Left {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	if r.Body != nil {
		body, err := r.Body()
		if err != nil {
			return nil, err
		}
		req.Body, req.ContentLength, req.GetBody = body, r.Length, r.Body
		if r.Length == 0 {
			_ = body.Close()
			req.Body, req.GetBody = http.NoBody, nil
		}
	}
	return req.WithContext(c.limitDial(ctx, req, r.Target)), nil
}

// redactError names the request. An *url.Error, which a transport may return, would quote the
// URL and with it signatures and session states.
func redactError(r Request, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%s %s: %w", r.Method, Redact(r.Target.URL), err)
}
