package transfer

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseAuthChallenge(t *testing.T) {
	const (
		realm = "https://auth.test/token"
		scope = `"repository:a/b:pull,push"`
	)
	full := AuthChallenge{Realm: realm, Service: "registry.test", Scope: "repository:a/b:pull,push"}
	for name, c := range map[string]struct {
		header string
		want   AuthChallenge
	}{
		"all": {`Bearer realm="` + realm + `",service="registry.test",scope=` + scope, full},
		"spaces": {
			` Bearer  realm = "` + realm + `" , service= "registry.test" ,scope =` + scope + ` `, full,
		},
		"tabs, no commas": {
			"Bearer\trealm=\"" + realm + "\"\tservice=\"registry.test\" scope=" + scope, full,
		},
		"any case": {`bEARER REALM="` + realm + `",Service="registry.test",sCOPE=` + scope, full},
		"any order, more": {
			`Bearer error="invalid_token",scope=` + scope + `,x=y,service="registry.test",realm="` + realm + `"`, full,
		},
		"no quotes": {
			`Bearer realm=https://auth.test/token,service=registry.test`,
			AuthChallenge{Realm: realm, Service: "registry.test"},
		},
		"escapes": {`Bearer realm="a\"b\\c\d",service="x"`, AuthChallenge{Realm: `a"b\cd`, Service: "x"}},
		"comma in quotes": {
			`Bearer scope="a,b, realm=c",realm="x"`, AuthChallenge{Realm: "x", Scope: "a,b, realm=c"},
		},
		"empty value":      {`Bearer realm="",service="x"`, AuthChallenge{Service: "x"}},
		"the first counts": {`Bearer realm="one",realm="two"`, AuthChallenge{Realm: "one"}},
		"nothing":          {``, AuthChallenge{}},
		"scheme alone":     {`Bearer`, AuthChallenge{}},
		"basic":            {`Basic realm="x"`, AuthChallenge{}},
		"basic, then bearer": {
			`Basic realm="x", Bearer realm="y",service="z"`, AuthChallenge{Realm: "y", Service: "z"},
		},
		"bearer, then basic": {`Bearer realm="y", Basic realm="x",service="z"`, AuthChallenge{Realm: "y"}},
		"two bearers":        {`Bearer realm="y", Bearer realm="x",service="z"`, AuthChallenge{Realm: "y"}},
		"token68 before":     {`Negotiate abc==, Bearer realm="y"`, AuthChallenge{Realm: "y"}},
		"xrealm":             {`Bearer xrealm="evil",realm="x"`, AuthChallenge{Realm: "x"}},
		"realm in a value":   {`Bearer error="realm=evil",realm="x"`, AuthChallenge{Realm: "x"}},
		"bearer in a value":  {`Basic realm="Bearer realm=evil"`, AuthChallenge{}},
		"bearer as a name":   {`Basic Bearer="x", realm="y"`, AuthChallenge{}},
		"longer scheme":      {`BearerX realm="x"`, AuthChallenge{}},
		"open quotes":        {`Bearer realm="x`, AuthChallenge{Realm: "x"}},
		"open escape":        {`Bearer realm="x\`, AuthChallenge{Realm: `x\`}},
		"quotes alone":       {`Bearer "realm"="x"`, AuthChallenge{}},
		"stray signs":        {`,,=,Bearer ;;realm="x"`, AuthChallenge{Realm: "x"}},
		"no name":            {`Bearer realm="z",="x",service="y"`, AuthChallenge{Realm: "z"}},
		"not ASCII":          {"Bearer ré\xff\x00alm=x,service=y", AuthChallenge{}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, parseAuthChallenge(c.header))
		})
	}
}

// challengeLimit is how much of a header is read.
const challengeLimit = 8 << 10

func TestI12ChallengeIsBounded(t *testing.T) {
	for _, header := range []string{
		"Bearer " + strings.Repeat(`realm="x",`, 1<<17) + `service="y"`,
		`Bearer realm="` + strings.Repeat("x", 1<<20),
		strings.Repeat("Basic ", 1<<18) + `Bearer service="y"`,
		"Bearer " + strings.Repeat("\x00", 1<<20) + `service="y"`,
		`Bearer scope="` + strings.Repeat(`\`, 1<<20) + `",service="y"`,
	} {
		c := parseAuthChallenge(header)
		assert.Empty(t, c.Service, "what comes after %d bytes is not read", challengeLimit)
		assert.LessOrEqual(t, len(c.Realm)+len(c.Scope), challengeLimit)
	}
}

func FuzzParseAuthChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a/b:pull,push"`)
	f.Fuzz(func(t *testing.T, header string) {
		c := parseAuthChallenge(header)
		if len(c.Realm)+len(c.Service)+len(c.Scope) > min(len(header), challengeLimit) {
			t.Errorf("%q: more than was there: %+v", header, c)
		}
		if c != (AuthChallenge{}) && !strings.Contains(strings.ToLower(header), "bearer") {
			t.Errorf("%q: %+v, though the scheme is another", header, c)
		}
		// A challenge that was understood is understood again, whatever its values are made of.
		if again := parseAuthChallenge(format(c)); len(header) < challengeLimit/4 && again != c {
			t.Errorf("%q: %+v is read again as %+v", header, c, again)
		}
	})
}

// format writes a challenge as a registry does.
func format(c AuthChallenge) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	return `Bearer realm="` + quote.Replace(c.Realm) + `",service="` + quote.Replace(c.Service) +
		`",scope="` + quote.Replace(c.Scope) + `"`
}

func TestDigestToPath(t *testing.T) {
	assert.Equal(t, "sha256-abc", digestToPath("sha256:abc"))
}

func BenchmarkParseAuthChallenge(b *testing.B) {
	const header = `Bearer realm="https://auth.test/token",service="registry.test",` +
		`scope="repository:a/b:pull,push"`
	b.ReportAllocs()
	for b.Loop() {
		if parseAuthChallenge(header).Realm == "" {
			b.Fatal("no realm")
		}
	}
}
