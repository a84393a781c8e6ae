// Package printable makes what strangers write fit for a terminal and a log: titles, tags, annotations,
// paths, answers of servers, and errors that quote them.
package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns a text as one line without anything that a terminal would obey or that would hide or turn the
// rest: control characters (C0, C1, DEL), ends of lines, characters of direction and width, bytes that are
// not UTF-8. Each becomes a space.
func Text(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return ' '
		}
		return r
	}, s)
}

// unprintable also holds for bytes that are not UTF-8: some terminals take 0x9b for the beginning of a
// command.
func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

// JSON returns a JSON text that means the same and has no character in it that [Text] would take out.
// Encoders escape C0 alone. Ends of lines between values stay.
func JSON(data []byte) []byte {
	if !strings.ContainsFunc(string(data), unprintable) {
		return data
	}
	escaped := make([]byte, 0, len(data)+64)
	for _, r := range string(data) {
		switch {
		case r == '\n' || r == '\t' || r == '\r' || r == utf8.RuneError || !unprintable(r):
			escaped = utf8.AppendRune(escaped, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			escaped = fmt.Appendf(escaped, `\u%04x\u%04x`, high, low)
		default:
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		}
	}
	return escaped
}
