package wire

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer/internal/challenge"
)

var errLink = errors.New("malformed Link header")

// NextLink returns the target of the link with relation "next" (RFC 8288 section 3), "" where there is none.
// The error is that of a header that cannot be read: there may be a next one in it.
func NextLink(h http.Header) (string, error) {
	next, found := "", false
	for _, value := range h.Values("Link") {
		links, err := parseLinks(value)
		if err != nil {
			return "", fmt.Errorf("%w: %.200q", err, value)
		}
		for _, l := range links {
			switch {
			case !l.isNext():
			case found && l.target != next:
				return "", fmt.Errorf("%w: two different next pages", errLink)
			default:
				next, found = l.target, true
			}
		}
	}
	if found && next == "" {
		return "", fmt.Errorf("%w: the next page is nowhere", errLink)
	}
	return next, nil
}

// link is one link of a Link header.
type link struct{ target, rel string }

// isNext tells whether the link is to the next page. It may have several relations.
func (l link) isNext() bool {
	next := func(rel string) bool { return strings.EqualFold(rel, "next") }
	return slices.ContainsFunc(strings.Fields(l.rel), next)
}

// parseLinks parses one value of a Link header. Targets and quoted strings may have any sign in them.
func parseLinks(s string) (list []link, err error) {
	for {
		if s = strings.TrimLeft(s, " \t,"); s == "" {
			return list, nil
		}
		target, rest, ok := strings.Cut(s, ">")
		if !ok || !strings.HasPrefix(target, "<") {
			return nil, errLink
		}
		l := link{target: strings.TrimSpace(target[1:])}
		if l.rel, s, err = cutRel(rest); err != nil {
			return nil, err
		}
		list = append(list, l)
	}
}

// cutRel cuts the parameters of a link off the front of s, and returns the first that is called rel. A link
// that has none cannot be understood (RFC 8288 section 3.3).
func cutRel(s string) (rel, rest string, err error) {
	found := false
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == ',' {
			break
		}
		if s[0] != ';' {
			return "", "", errLink
		}
		s = strings.TrimLeft(s[1:], " \t")
		end := strings.IndexAny(s, "=;,")
		if end < 0 {
			end = len(s)
		}
		name, value := strings.TrimSpace(s[:end]), ""
		if s = s[end:]; strings.HasPrefix(s, "=") {
			if value, s, err = cutParameter(strings.TrimLeft(s[1:], " \t")); err != nil {
				return "", "", err
			}
		}
		if strings.EqualFold(name, "rel") && !found {
			rel, found = value, true
		}
	}
	if !found {
		return "", "", errLink
	}
	return rel, s, nil
}

// cutParameter cuts the value of a parameter off the front of s, a quoted string or what ends at the next
// one.
func cutParameter(s string) (value, rest string, err error) {
	quoted, isQuoted := strings.CutPrefix(s, `"`)
	if !isQuoted {
		end := strings.IndexAny(s, ";,")
		if end < 0 {
			end = len(s)
		}
		return strings.TrimSpace(s[:end]), s[end:], nil
	}
	value, rest, closed := challenge.CutQuoted(quoted)
	if !closed {
		return "", "", errLink
	}
	return value, rest, nil
}

// NextPage returns where the next page of a list is that the target is a page of. A registry behind a proxy
// may not know its own scheme, port or the path that is put before: where the link leads to the same list,
// only its query counts. All else is a redirect.
func (t Target) NextPage(link string) (Target, error) {
	u, err := t.URL.Parse(escapeLocation(link))
	if err != nil || strings.ContainsFunc(link, isControl) {
		return t, fmt.Errorf(
			"%w: %s: the link to its next page is malformed", ErrRedirectRefused, Redact(t.URL))
	}
	list, ok := strings.CutPrefix(t.URL.Path, t.registry.base.Path)
	isSame := ok && sameHost(u, t.URL) && strings.HasSuffix(u.Path, "/"+list)
	if !isSame || !t.atHome() || u.User != nil || !isHTTP(u) {
		return t.Resolve(link)
	}
	next := *t.URL
	next.RawQuery = u.RawQuery
	t.URL = &next
	return t, nil
}
