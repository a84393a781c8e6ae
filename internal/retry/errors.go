package retry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/modeltransfer/transfer/internal/wire"
)

// ErrExhausted is a temporary failure that did not pass in time. The error of the last attempt is wrapped
// too.
var ErrExhausted = errors.New("gave up retrying, run it again to continue")

// errOtherWay goes with a permanent error after which another way is left to try.
var errOtherWay = errors.New("trying another way")

// OtherWay marks an error after which another way is left to try, such as a new signed URL, smaller chunks or
// a new upload session. It is worth another attempt, whatever err is, and says nothing about the load of the
// server.
func OtherWay(err error) error { return fmt.Errorf("%w: %w", errOtherWay, err) }

// IsOtherWay tells whether an error was marked by [OtherWay].
func IsOtherWay(err error) bool { return errors.Is(err, errOtherWay) }

// Permanent marks an error that no second attempt will mend.
func Permanent(err error) error { return verdict{err, false} }

// Transient marks an error that is worth another attempt, though one of its kind may not be.
func Transient(err error) error { return verdict{err, true} }

// verdict says of an error whether it is worth another attempt. The outermost in a chain counts.
type verdict struct {
	error
	retryable bool
}

func (v verdict) Unwrap() error { return v.error }

// After marks the error of a server that asked to be left alone for so long (RFC 9110 section 10.2.3). A wait
// of 0 marks nothing.
func After(wait time.Duration, err error) error {
	if wait <= 0 {
		return err
	}
	return afterError{err, wait}
}

// Asked returns for how long a server asks to be left alone, as its error says. It is 0 where another way is
// left to try meanwhile.
func Asked(err error) time.Duration {
	after, _ := errors.AsType[afterError](err)
	if IsOtherWay(err) {
		return 0
	}
	return after.wait
}

type afterError struct {
	error
	wait time.Duration
}

func (e afterError) Unwrap() error { return e.error }

// NoDescriptor tells whether a file or a socket could not be opened because too many are open. That says
// nothing about it.
func NoDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Retryable tells whether an attempt that failed with err is worth another. An error is unless it is known to
// be permanent, because a transport has many ways to fail.
func Retryable(err error) bool {
	if IsOtherWay(err) {
		return true
	}
	if v, ok := errors.AsType[verdict](err); ok {
		return v.retryable
	}
	if errors.Is(err, wire.ErrRedirectRefused) || errors.Is(err, wire.ErrWrongScheme) ||
		is[*wire.TLSRefused](err) || is[*tls.CertificateVerificationError](err) {
		return false
	}
	if is[*fs.PathError](err) {
		return NoDescriptor(err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return !dns.IsNotFound
	}
	return !hopeless(err.Error())
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// hopeless tells the permanent errors of net/http by their text, because they have neither a type nor a
// value: a proxy that wants a password, headers beyond the transport's limit, and a token or another header
// that cannot be sent.
func hopeless(text string) bool {
	return strings.Contains(text, http.StatusText(http.StatusProxyAuthRequired)) ||
		strings.Contains(text, "server response headers exceeded") ||
		strings.Contains(text, "net/http: invalid header field value for")
}
