package wire

import (
	"net/url"
	"strings"
)

// shownParams are the query parameters that errors and logs show. All others may be signatures, session
// states or tokens.
var shownParams = map[string]bool{"digest": true, "from": true, "mount": true, "ns": true}

// maxShownURL is how many bytes of a URL are shown: a server may have made it up.
const maxShownURL = 300

// Redact returns the URL for errors and logs, without user information and without the values of unknown
// query parameters. A parameter that has no value may be one.
func Redact(u *url.URL) string {
	var b strings.Builder
	b.WriteString(beforePath(u) + u.EscapedPath())
	separator := "?"
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		key, _, hasValue := strings.Cut(pair, "=")
		switch {
		case pair == "":
			continue
		case shownParams[key]:
		case hasValue:
			pair = key + "=***"
		default:
			pair = "***"
		}
		b.WriteString(separator + pair)
		separator = "&"
	}
	if s := b.String(); len(s) > maxShownURL {
		return strings.ToValidUTF8(s[:maxShownURL], "") + "..."
	}
	return b.String()
}

// beforePath is what comes before the path of a URL. A word before a colon is the scheme also where a host
// was meant, as in localhost:5000; what follows it may be a password, and is shown where it can be a port.
func beforePath(u *url.URL) string {
	switch {
	case u.Opaque == "" && u.Scheme == "":
		return printable(u.Host)
	case u.Opaque == "":
		return u.Scheme + "://" + printable(u.Host)
	case strings.Trim(u.Opaque, "0123456789") == "" && len(u.Opaque) <= len("65535"):
		return u.Scheme + ":" + u.Opaque
	}
	return u.Scheme + ":***"
}
