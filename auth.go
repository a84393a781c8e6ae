package transfer

import (
	"context"

	"github.com/modeltransfer/transfer/internal/challenge"
	"github.com/modeltransfer/transfer/internal/exchange"
)

// AuthChallenge is what a registry asks for when it answers 401: the Bearer
// challenge of its WWW-Authenticate header (RFC 9110 section 11.6.1, RFC 6750
// section 3). All fields are empty when it named none, as a registry does that knows Basic
// authentication only. The realm is an http or https URL that the rules for redirects allow, or empty.
type AuthChallenge struct {
	Realm   string
	Service string
	Scope   string
}

// parseAuthChallenge returns the best Bearer challenge of a WWW-Authenticate header, which may have several.
// It keeps its name: the tests of programs that have a copy of this package use it.
func parseAuthChallenge(header string) (c AuthChallenge) {
	c.Realm, c.Service, c.Scope, _ = challenge.Bearer(header)
	return c
}

// challenged adapts a GetToken of the options. Nil stays nil.
func challenged(getToken func(context.Context, AuthChallenge) (string, error)) exchange.GetToken {
	if getToken == nil {
		return nil
	}
	return func(ctx context.Context, c exchange.Challenge) (string, error) {
		return getToken(ctx, AuthChallenge(c))
	}
}
