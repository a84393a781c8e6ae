package names

import (
	"fmt"
	"path"
	"strings"
)

// CheckPatterns refuses malformed patterns.
func CheckPatterns(patterns []string) error {
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("malformed pattern: %q", pattern)
		}
	}
	return nil
}

// Match tells whether a pattern matches a whole name, its last element, or a directory above it.
func Match(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if ok, _ := path.Match(pattern, path.Base(name)); ok {
			return true
		}
		for t := name; t != "." && t != "/"; t = path.Dir(t) {
			if ok, _ := path.Match(strings.TrimSuffix(pattern, "/"), t); ok {
				return true
			}
		}
	}
	return false
}
