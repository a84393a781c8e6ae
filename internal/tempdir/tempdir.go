// Package tempdir makes temporary directories also where the system has no place for them.
package tempdir

import (
	"errors"
	"io/fs"
	"os"
)

// Make makes a temporary directory as [os.MkdirTemp] does. Where TMPDIR names none, as in a container that
// was given only the variable, it is in the user's cache, or in the current directory.
func Make(pattern string) (string, error) {
	dir, err := os.MkdirTemp("", pattern)
	if !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	if cache, none := os.UserCacheDir(); none == nil && os.MkdirAll(cache, 0o700) == nil {
		return os.MkdirTemp(cache, pattern)
	}
	return os.MkdirTemp(".", "."+pattern)
}
