package wire

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	segment = regexp.MustCompile(`^[A-Za-z0-9._~+-]+$`)
	tag     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
)

// maxRepository is the longest repository name, in bytes; the spec advises 255
// with the host.
const maxRepository = 1024

// CheckRepository reports whether a repository name is safe in a URL. It is
// laxer than the OCI grammar: names with upper-case letters exist in the field.
func CheckRepository(name string) error {
	for s := range strings.SplitSeq(name, "/") {
		if !segment.MatchString(s) || s == "." || s == ".." || len(name) > maxRepository {
			return fmt.Errorf("malformed repository name %.100q", name)
		}
	}
	return nil
}

// CheckTag reports whether a tag has the form that the OCI distribution spec
// gives it.
func CheckTag(name string) error {
	if !tag.MatchString(name) {
		return fmt.Errorf("malformed tag %.100q", name)
	}
	return nil
}
