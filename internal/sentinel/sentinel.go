// Package sentinel has the errors that packages at several depths return and callers match.
package sentinel

import "errors"

var (
	// ErrInvalidOption is an option that no request can be made of, or a nil context.
	ErrInvalidOption = errors.New("invalid option")

	// ErrInvalidDigest is a digest that is malformed or of an unknown algorithm.
	ErrInvalidDigest = errors.New("invalid digest")

	// ErrManifest is a manifest of which nothing can be made.
	ErrManifest = errors.New("malformed manifest")

	// ErrProtocol is an answer that breaks the OCI distribution spec or HTTP.
	ErrProtocol = errors.New("protocol error")

	// ErrDigestMismatch is content that is not what its digest says.
	ErrDigestMismatch = errors.New("content does not match its digest")

	// ErrSizeMismatch is content longer or shorter than the size of its blob.
	ErrSizeMismatch = errors.New("size mismatch")

	// ErrUnauthorized is a registry, or a token server of it, that wants credentials or refuses those it got.
	ErrUnauthorized = errors.New("credentials are missing or refused")

	// ErrDenied is a registry, or a token server of it, that does not allow what was asked for.
	ErrDenied = errors.New("access denied")
)
