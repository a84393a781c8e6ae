package registry

import (
	"maps"
	"slices"
	"strings"
)

// maxScopes is how many resources one token is asked for. Each makes the token, and with it every
// request, larger.
const maxScopes = 32

// scopes are what a token is asked for: the actions on each resource, as in "repository:library/model"
// and "pull" (distribution project, "Token Scope Documentation").
type scopes map[string][]string

// parseScopes reads the scope of a challenge, which may have several parts. Malformed parts are passed over.
func parseScopes(text string) scopes {
	s := scopes{}
	for part := range strings.FieldsSeq(text) {
		colon := strings.LastIndexByte(part, ':')
		if colon > 0 && colon+1 < len(part) && len(s) < maxScopes {
			s.add(part[:colon], strings.Split(part[colon+1:], ",")...)
		}
	}
	return s
}

// add adds actions on a resource.
func (s scopes) add(resource string, actions ...string) {
	all := slices.Concat(s[resource], actions)
	slices.Sort(all)
	s[resource] = slices.Compact(all)
}

// with returns the union.
func (s scopes) with(other scopes) scopes {
	union := scopes{}
	maps.Copy(union, s)
	for resource, actions := range other {
		union.add(resource, actions...)
	}
	return union
}

// only returns the part for one resource.
func (s scopes) only(resource string) scopes { return scopes{resource: s[resource]} }

// cover reports whether all of the other scopes are in s.
func (s scopes) cover(other scopes) bool {
	for resource, actions := range other {
		for _, action := range actions {
			if !slices.Contains(s[resource], action) {
				return false
			}
		}
	}
	return true
}

// list returns the scopes as a token server wants them, in order.
func (s scopes) list() []string {
	var list []string
	for _, resource := range slices.Sorted(maps.Keys(s)) {
		list = append(list, resource+":"+strings.Join(s[resource], ","))
	}
	return list
}
