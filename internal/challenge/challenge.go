// Package challenge parses the WWW-Authenticate header of a 401 answer (RFC 9110 section 11.6.1).
//
// Registries, and the proxies in front of them, send several challenges in one header value, several
// header values, and malformed ones. What is malformed is passed over; no input is an error.
package challenge

import (
	"slices"
	"strings"
)

// maxHeader is how many bytes of all values together are read: a server must not choose how much work
// its answer is.
const maxHeader = 8 << 10 // 8 KiB

// Challenge is one challenge. A parameter that it does not have is empty.
type Challenge struct {
	Scheme string // as the server wrote it; schemes are compared without regard to case

	Realm   string
	Service string
	Scope   string
	Error   string // such as "invalid_token" (RFC 6750 section 3.1)
}

// is reports whether the challenge is of the scheme.
func (c *Challenge) is(scheme string) bool { return strings.EqualFold(c.Scheme, scheme) }

// set keeps the first value of a parameter; later ones may have been added by somebody in between.
func (c *Challenge) set(name, value string) {
	var param *string
	switch strings.ToLower(name) {
	case "realm":
		param = &c.Realm
	case "service":
		param = &c.Service
	case "scope":
		param = &c.Scope
	case "error":
		param = &c.Error
	default:
		return
	}
	if *param == "" {
		*param = value
	}
}

// rank orders Bearer challenges: one whose realm can be asked for a token comes before one whose realm
// cannot, and then one that says for which scope comes before one that does not.
func (c *Challenge) rank() int {
	r := 0
	scheme, _, isURL := strings.Cut(c.Realm, "://")
	isHTTP := strings.EqualFold(scheme, "https") || strings.EqualFold(scheme, "http")
	if NamesServer(c.Realm) && (isHTTP || !isURL) {
		r += 4
	}
	if c.Realm != "" {
		r += 2
	}
	if c.Scope != "" {
		r++
	}
	return r
}

// Bearer returns the best Bearer challenge (RFC 6750 section 3) of the header values, and the first
// among equals. ok reports whether there is one.
func Bearer(values ...string) (realm, service, scope string, ok bool) {
	best, ok := bestOf(challenges(values...))
	return best.Realm, best.Service, best.Scope, ok
}

// bestOf returns the best Bearer challenge.
func bestOf(list []Challenge) (best Challenge, ok bool) {
	for _, c := range list {
		if c.is("Bearer") && (!ok || c.rank() > best.rank()) {
			best, ok = c, true
		}
	}
	return best, ok
}

// Best returns the challenge to answer: the best Bearer one whose realm is usable or, where there is none but
// a Basic one (RFC 7617), the zero value, which is answered with a user name and a password. Where there is
// neither, it is the best Bearer one.
func Best(usable func(realm string) bool, values ...string) Challenge {
	all := challenges(values...)
	good := slices.DeleteFunc(slices.Clone(all), func(c Challenge) bool { return !usable(c.Realm) })
	if best, ok := bestOf(good); ok {
		return best
	}
	if slices.ContainsFunc(all, func(c Challenge) bool { return c.is("Basic") }) {
		return Challenge{}
	}
	best, _ := bestOf(all)
	return best
}

// NamesServer reports whether a realm is a URL, or a path at the server that sent it. Others are names for
// people.
func NamesServer(realm string) bool {
	return strings.Contains(realm, "://") || strings.HasPrefix(realm, "/") ||
		strings.HasPrefix(realm, "./") || strings.HasPrefix(realm, "../")
}

// IsDenied reports whether a challenge says that the token is good, but not for what was asked (RFC 6750
// section 3.1).
func IsDenied(values ...string) bool {
	says := func(c Challenge) bool { return strings.EqualFold(c.Error, "insufficient_scope") }
	return slices.ContainsFunc(challenges(values...), says)
}

// challenges returns the challenges of the header values in their order. A value that ends in the middle
// of a quoted string does not swallow the next value.
func challenges(values ...string) []Challenge {
	var list []Challenge
	left := maxHeader
	for _, value := range values {
		value = value[:min(len(value), left)]
		left -= len(value)
		list = append(list, parse(value)...)
	}
	return list
}

// parse parses one value. A token that "=" follows is a parameter of the challenge before it; any
// other token begins a challenge.
func parse(s string) (list []Challenge) {
	for {
		if s = strings.TrimLeft(s, " \t,"); s == "" {
			return list
		}
		name, after := cutToken(s)
		value, isParam := strings.CutPrefix(strings.TrimLeft(after, " \t"), "=")
		switch {
		case name == "":
			s = s[1:]
		case !isParam:
			list = append(list, Challenge{Scheme: name})
			s = after
		default:
			value, s = cutValue(strings.TrimLeft(value, " \t"))
			if len(list) > 0 {
				list[len(list)-1].set(name, value)
			}
		}
	}
}

// cutToken cuts a token (RFC 9110 section 5.6.2) off the front of s.
func cutToken(s string) (token, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cutValue cuts the value of a parameter off the front of s. It is a quoted string (RFC 9110 section
// 5.6.4) or ends at a comma or a space; a token would end at the slash of an unquoted URL too.
func cutValue(s string) (value, rest string) {
	quoted, isQuoted := strings.CutPrefix(s, `"`)
	if !isQuoted {
		if i := strings.IndexAny(s, ", \t"); i >= 0 {
			return s[:i], s[i:]
		}
		return s, ""
	}
	value, rest, _ = CutQuoted(quoted)
	return value, rest
}

// CutQuoted cuts a quoted string (RFC 9110 section 5.6.4), of which the first quote was cut off before, off
// the front of s. closed reports whether it ends there; otherwise it is all of s.
func CutQuoted(s string) (value, rest string, closed bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", false
}
