package wire

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// ErrTLSRefused is a TLS handshake that fails each time: server and client have no version, cipher or
// certificate that suits both. The message says what to do.
var ErrTLSRefused = errors.New("TLS is refused")

// What to do about a handshake that fails.
const (
	useCertificate = "use a Client whose transport has a certificate that the server accepts " +
		"(tls.Config.Certificates)"
	useVersion = "use a Client whose transport has a TLS version or cipher that the server speaks " +
		"(tls.Config.MinVersion, CipherSuites)"
	checkName = "check the host of the URL, which the server does not serve"
)

// alerts are the TLS alerts of a server (RFC 8446 section 6.2) that come again with the next attempt, as
// crypto/tls words them, since their type is not exported, and what to do about each.
var alerts = map[string]string{
	"tls: access denied":                  useCertificate,
	"tls: bad certificate":                useCertificate,
	"tls: certificate required":           useCertificate,
	"tls: expired certificate":            useCertificate,
	"tls: revoked certificate":            useCertificate,
	"tls: unknown certificate":            useCertificate,
	"tls: unknown certificate authority":  useCertificate,
	"tls: unsupported certificate":        useCertificate,
	"tls: handshake failure":              useVersion + ", or " + useCertificate,
	"tls: insufficient security level":    useVersion,
	"tls: no application protocol":        useVersion,
	"tls: protocol version not supported": useVersion,
	"tls: unrecognized name":              checkName,
}

// ours are the ends of a handshake of the same kind that crypto/tls finds on our side.
var ours = []string{
	"tls: no supported versions satisfy MinVersion and MaxVersion",
	"tls: server chose an unconfigured cipher suite",
	"tls: server selected unsupported protocol version",
}

// explainTLS adds ErrTLSRefused, and what to do, to the error of a handshake that fails for good.
func explainTLS(err error) error {
	do := ""
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" && op.Err != nil {
		do = alerts[op.Err.Error()]
	}
	for _, text := range ours {
		if strings.Contains(err.Error(), text) {
			do = useVersion
		}
	}
	if do == "" {
		return err
	}
	return fmt.Errorf("%w: %w (%s)", ErrTLSRefused, err, do)
}
