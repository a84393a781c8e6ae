package exchange

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/challenge"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Failure is an answer whose status says that the request failed.
type Failure struct {
	Method     string
	URL        string // redacted
	Status     int
	Errors     []wire.RegistryError // what the body told, without tokens
	Digests    []digest.Digest      // named in the body
	retryAfter time.Duration
	Elsewhere  bool   // the answer is not the registry's, but that of where it has sent us
	Denied     bool   // the credentials are good, but not for this (RFC 6750 section 3.1)
	Secure     string // the registry's https URL, to which its http one redirects; "" where it does not
}

// Has tells whether the body told one of the codes.
func (f *Failure) Has(codes ...string) bool {
	named := func(e wire.RegistryError) bool { return slices.Contains(codes, e.Code) }
	return slices.ContainsFunc(f.Errors, named)
}

// Temporary tells whether the same request may succeed later.
func (f *Failure) Temporary() bool { return wire.TemporaryAnswer(f.Status, f.Errors) }

// Failure reads the failure that an answer is. The caller closes the answer, which gives its slot back, when
// it has remembered what the failure tells.
func (x *Exchange) Failure(resp *Response) Failure {
	f := Failure{
		Method: resp.Request.Method, URL: wire.Redact(resp.Target.URL), Status: resp.StatusCode,
		retryAfter: retryAfter(resp.Response), Elsewhere: resp.Target.Left, Secure: resp.Target.Secure(),
		Denied: challenge.IsDenied(resp.Header.Values("WWW-Authenticate")...),
	}
	f.Errors, f.Digests = wire.ReadErrors(resp.Body)
	secrets := &x.Tokens.secrets // which a server may quote
	for i, e := range f.Errors {
		f.Errors[i] = wire.RegistryError{Code: secrets.Mask(e.Code), Message: secrets.Mask(e.Message)}
	}
	x.Tokens.judged(resp.flight, x.refusal(f, resp))
	return f
}

// refusal returns the error of a failure that says that the password is wrong, nil of any other.
func (x *Exchange) refusal(f Failure, resp *Response) error {
	if f.Status != http.StatusUnauthorized || f.Elsewhere || f.Denied || resp.flight.req.Hint {
		return nil
	}
	return x.Err(f)
}

// Err returns the error of a failure, marked as worth another attempt or not.
func (x *Exchange) Err(f Failure) error {
	err := x.StatusError(f)
	if f.Status == http.StatusUnauthorized && !f.Elsewhere {
		err = loginError{err}
	}
	if !f.Temporary() {
		return retry.Permanent(err)
	}
	return retry.After(f.retryAfter, retry.Transient(err))
}

// Error returns the error of an answer that is a failure, see [Exchange.Failure].
func (x *Exchange) Error(resp *Response) error { return x.Err(x.Failure(resp)) }

// loginError is an error that other credentials may mend.
type loginError struct{ error }

func (e loginError) Unwrap() error { return e.error }

// NeedsLogin tells whether an error comes of credentials: the registry has refused them, or no token could be
// got.
func NeedsLogin(err error) bool {
	_, ok := errors.AsType[loginError](err)
	return ok
}
