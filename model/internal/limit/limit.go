// Package limit has the error of a model that goes beyond what is allowed to it.
package limit

import (
	"errors"
	"fmt"
)

// Names of limits, as [Error] has them.
const (
	Bytes     = "bytes"
	Files     = "files"
	Depth     = "depth"
	Manifests = "manifests"
)

// Err is a model that goes beyond a limit. The error is a [*Error].
var Err = errors.New("the model is larger than a model is")

// Error says which limit.
type Error struct {
	Limit string // its name
	Most  int64  // and its value
}

func (e *Error) Error() string {
	switch e.Limit {
	case Bytes:
		return fmt.Sprintf("unpacked, it would be more than %d bytes", e.Most)
	case Files:
		return fmt.Sprintf("it would be more than %d files and directories", e.Most)
	case Depth:
		return fmt.Sprintf("its directories are nested more than %d deep", e.Most)
	}
	return fmt.Sprintf("it names more than %d manifests", e.Most)
}

func (e *Error) Unwrap() error { return Err }
