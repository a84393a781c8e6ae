// Package limit has the error of a model that goes beyond what is allowed to it.
package limit

import "fmt"

// Names of limits, as [Error] has them.
const (
	Bytes     = "bytes"
	Files     = "files"
	Depth     = "depth"
	Manifests = "manifests"
)

// Error is a model that goes beyond a limit.
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
	return fmt.Sprintf("it names more manifests than %d", e.Most)
}
