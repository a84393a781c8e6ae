package wire

import (
	"fmt"
	"strings"
)

// escapeLocation escapes what servers forget to escape in a Location, as browsers do (WHATWG URL,
// "percent-encode sets"), and leaves the fragment out, which is never sent. The authority stays as it
// is: a host with a space in it is malformed.
func escapeLocation(location string) string {
	location, _, _ = strings.Cut(strings.Trim(location, " "), "#")
	allowed := isPathByte
	var escaped []byte
	kept := 0 // all before it is in escaped
	for i := authorityEnd(location); i < len(location); i++ {
		switch c := location[i]; {
		case c == '?':
			allowed = isQueryByte
		case !allowed(c):
			escaped = fmt.Appendf(append(escaped, location[kept:i]...), "%%%02X", c)
			kept = i + 1
		}
	}
	if kept == 0 {
		return location
	}
	return string(append(escaped, location[kept:]...))
}

// authorityEnd returns where the path of a URL begins.
func authorityEnd(s string) int {
	scheme, rest, found := strings.Cut(s, "//")
	if !found || scheme != "" && (!strings.HasSuffix(scheme, ":") || strings.ContainsAny(scheme, "/?")) {
		return 0
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		return len(s) - len(rest) + i
	}
	return len(s)
}

// isPathByte reports whether net/url leaves a byte of a path alone. It parses a path with any other byte
// in it too, but then unescapes all that was escaped, such as %2F.
func isPathByte(c byte) bool {
	return isQueryByte(c) && !strings.ContainsRune("\\^`{|}", rune(c))
}

func isQueryByte(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`"<>`, rune(c))
}

// isControl reports whether a character is an ASCII control character.
func isControl(r rune) bool { return r < ' ' || r == 0x7f }
