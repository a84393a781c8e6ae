package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// TLSRefused is a TLS handshake that fails each time: server and client have no version, cipher or
// certificate that suits both. The message says what to do.
type TLSRefused struct {
	Err error

	// Certificate and Version say what may help: a certificate of the client's, another version or cipher.
	Certificate, Version bool
}

func (e *TLSRefused) Error() string { return fmt.Sprintf("TLS is refused: %v (%s)", e.Err, e.Advice()) }
func (e *TLSRefused) Unwrap() error { return e.Err }

// Advice says what a program may do, as it is in brackets at the end of the message.
func (e *TLSRefused) Advice() string {
	switch {
	case e.Certificate && e.Version:
		return useVersion + ", or " + useCertificate
	case e.Certificate:
		return useCertificate
	case e.Version:
		return useVersion
	}
	return checkName
}

// What to do about a handshake that fails.
const (
	useCertificate = "use a Client whose transport has a certificate that the server accepts " +
		"(tls.Config.Certificates)"
	useVersion = "use a Client whose transport has a TLS version or cipher that the server speaks " +
		"(tls.Config.MinVersion, CipherSuites)"
	checkName = "check the host of the URL, which the server does not serve"
)

// alerts are the TLS alerts of a server (RFC 8446 section 6.2) that come again with the next attempt, as
// crypto/tls words them, since their type is not exported, and what may help.
var alerts = map[string]TLSRefused{
	"tls: access denied":                  {Certificate: true},
	"tls: bad certificate":                {Certificate: true},
	"tls: certificate required":           {Certificate: true},
	"tls: expired certificate":            {Certificate: true},
	"tls: revoked certificate":            {Certificate: true},
	"tls: unknown certificate":            {Certificate: true},
	"tls: unknown certificate authority":  {Certificate: true},
	"tls: unsupported certificate":        {Certificate: true},
	"tls: handshake failure":              {Certificate: true, Version: true},
	"tls: insufficient security level":    {Version: true},
	"tls: no application protocol":        {Version: true},
	"tls: protocol version not supported": {Version: true},
	"tls: unrecognized name":              {},
}

// ours are the ends of a handshake of the same kind that crypto/tls finds on our side.
var ours = []string{
	"tls: no supported versions satisfy MinVersion and MaxVersion",
	"tls: server chose an unconfigured cipher suite",
	"tls: server selected unsupported protocol version",
}

// explainTLS makes the error of a handshake that fails for good a [TLSRefused].
func explainTLS(err error) error {
	refused, known := TLSRefused{}, false
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" && op.Err != nil {
		refused, known = alerts[op.Err.Error()]
	}
	for _, text := range ours {
		if strings.Contains(err.Error(), text) {
			refused, known = TLSRefused{Version: true}, true
		}
	}
	if !known {
		return err
	}
	refused.Err = err
	return &refused
}

// mayHideAlert tells whether the error of a request may be there in place of an alert. In TLS 1.3 that of a
// client certificate comes after the handshake, and HTTP/2 of net/http may tell of a broken pipe instead
// (golang/go#76671).
func (c *Client) mayHideAlert(t Target, err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	broken := ok && (op.Op == "read" || op.Op == "write") ||
		strings.Contains(err.Error(), "client conn could not be established")
	return broken && c.guarded && c.own.DialTLSContext == nil && t.URL.Scheme == "https" &&
		sameHost(t.URL, t.registry.base) && !c.hasAnswered(t)
}

// hiddenAlert asks the registry over HTTP/1.1, which shows an alert. It returns nil where there is none.
func (c *Client) hiddenAlert(ctx context.Context, t Target) error {
	plain := c.own.Clone()
	plain.ForceAttemptHTTP2 = false
	plain.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	plain.Protocols = new(http.Protocols)
	plain.Protocols.SetHTTP1(true)
	if plain.TLSClientConfig != nil {
		plain.TLSClientConfig.NextProtos = nil
	}
	root := Target{URL: t.registry.api, Left: true, registry: t.registry}
	resp, err := roundTripOnce(plain, c.newRequest(ctx, Request{Method: http.MethodGet, Target: root}))
	if err == nil {
		return resp.Body.Close()
	}
	if _, ok := errors.AsType[*TLSRefused](explainTLS(err)); ok {
		return err
	}
	return nil
}
