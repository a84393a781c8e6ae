package wire

import (
	"net/url"
	"strings"
)

// shownParams are the query parameters that are told in errors and logs. All
// others may be signatures, session states or tokens.
var shownParams = map[string]bool{"digest": true, "from": true, "mount": true, "ns": true}

// maxShownURL is how much of a URL that a server made up is told.
const maxShownURL = 300

// Redact returns the URL for errors and logs, without user information and
// with the values of unknown query parameters left out.
func Redact(u *url.URL) string {
	var b strings.Builder
	b.WriteString(u.Scheme + "://" + u.Host + u.EscapedPath())
	separator := "?"
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		key, _, hasValue := strings.Cut(pair, "=")
		if pair == "" {
			continue
		}
		if !shownParams[key] && hasValue {
			pair = key + "=***"
		}
		b.WriteString(separator + pair)
		separator = "&"
	}
	if s := b.String(); len(s) > maxShownURL {
		return strings.ToValidUTF8(s[:maxShownURL], "") + "..."
	}
	return b.String()
}
