// Package fault has the errors that packages at several depths return and callers match.
package fault

import "errors"

var (
	// ErrProtocol is an answer that breaks the OCI distribution spec or HTTP.
	ErrProtocol = errors.New("protocol error")

	// ErrDigestMismatch is content that is not what its digest says.
	ErrDigestMismatch = errors.New("content does not match its digest")

	// ErrSizeMismatch is content longer or shorter than the size of its blob.
	ErrSizeMismatch = errors.New("size mismatch")
)
