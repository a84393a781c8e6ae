package registry

import (
	"encoding/base64"
	"errors"
	"strings"
)

// Credentials say who asks. The zero value is anonymous.
type Credentials struct {
	// Username and Password are what a person logs in with. The password may be an access token of the
	// registry's, or a key of several lines. A name must not have a colon in it.
	Username string
	Password string

	// IdentityToken is a refresh token (OAuth 2.0, RFC 6749 section 6), as "docker login" keeps for
	// some registries. Where it is set, it is used instead of Username and Password wherever the token
	// server takes it.
	IdentityToken string
}

var (
	errColon  = errors.New("a user name must not have a colon in it (RFC 7617 section 2)")
	errNoName = errors.New("a password without a user name")
)

// anonymous reports whether nobody is named.
func (c Credentials) anonymous() bool { return c == Credentials{} }

// check refuses what cannot be sent. Control characters can: both ways of sending encode them.
func (c Credentials) check() error {
	switch {
	case strings.Contains(c.Username, ":"):
		return errColon
	case c.Username == "" && c.Password != "":
		return errNoName
	}
	return nil
}

// basic returns the value of an Authorization header (RFC 7617).
func (c Credentials) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// String returns who it is. It leaves out all secrets, so that options can be printed.
func (c Credentials) String() string {
	switch {
	case c.anonymous():
		return "anonymous"
	case c.IdentityToken != "":
		return "identity token"
	}
	return c.Username + ":***"
}

// GoString is String, for the verb %#v.
func (c Credentials) GoString() string { return c.String() }
