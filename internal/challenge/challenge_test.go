package challenge

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// bearer is what Bearer returns.
type bearer struct {
	realm, service, scope string
	ok                    bool
}

func read(values ...string) bearer {
	realm, service, scope, ok := Bearer(values...)
	return bearer{realm, service, scope, ok}
}

func TestBearer(t *testing.T) {
	const realm = "https://a.test/token"
	full := bearer{realm, "reg.test", "repository:a:pull", true}
	for name, c := range map[string]struct {
		header string
		want   bearer
	}{
		"all": {
			`Bearer realm="https://a.test/token",service="reg.test",scope="repository:a:pull"`, full},
		"spaces": {
			` Bearer  realm = "https://a.test/token" , service= "reg.test" ,scope ="repository:a:pull" `,
			full},
		"tabs, no commas": {
			"Bearer\trealm=\"https://a.test/token\"\tservice=\"reg.test\" " +
				"scope=\"repository:a:pull\"", full},
		"any case": {
			`bEARER REALM="https://a.test/token",Service="reg.test",sCOPE="repository:a:pull"`, full},
		"any order, more": {
			`Bearer error="invalid_token",scope="repository:a:pull",x=y,service="reg.test",` +
				`realm="https://a.test/token"`, full},
		"no quotes": {
			`Bearer realm=https://a.test/token,service=reg.test`, bearer{realm, "reg.test", "", true}},
		"escapes":          {`Bearer realm="a\"b\\c\d",service="x"`, bearer{`a"b\cd`, "x", "", true}},
		"comma in quotes":  {`Bearer scope="a,b, realm=c",realm="x"`, bearer{"x", "", "a,b, realm=c", true}},
		"empty value":      {`Bearer realm="",service="x"`, bearer{"", "x", "", true}},
		"the first counts": {`Bearer realm="one",realm="two"`, bearer{"one", "", "", true}},
		"nothing":          {``, bearer{}},
		"scheme alone":     {`Bearer`, bearer{ok: true}},
		"basic":            {`Basic realm="x"`, bearer{}},
		"token68 before":   {`Negotiate abc==, Bearer realm="y"`, bearer{"y", "", "", true}},
		"xrealm":           {`Bearer xrealm="evil",realm="x"`, bearer{"x", "", "", true}},
		"realm in a value": {`Bearer error="realm=evil",realm="x"`, bearer{"x", "", "", true}},
		"bearer in a value": {
			`Basic realm="x, Bearer realm=evil", Bearer realm="https://good"`,
			bearer{"https://good", "", "", true}},
		"bearer only in a value": {`Basic realm="Bearer realm=evil"`, bearer{}},
		"bearer as a name":       {`Basic Bearer="x", realm="y"`, bearer{}},
		"longer scheme":          {`BearerX realm="x"`, bearer{}},
		"open quotes":            {`Bearer realm="x`, bearer{"x", "", "", true}},
		"open escape":            {`Bearer realm="x\`, bearer{`x\`, "", "", true}},
		"quotes alone":           {`Bearer "realm"="x"`, bearer{ok: true}},
		"stray signs":            {`,,=,Bearer ;;realm="x"`, bearer{"x", "", "", true}},
		"no name":                {`Bearer realm="z",="x",service="y"`, bearer{"z", "", "", true}},
		"not ASCII":              {"Bearer r\xe9\xff\x00alm=x,service=y", bearer{ok: true}},
		"parameters without one": {`realm="x", Bearer service="y"`, bearer{"", "y", "", true}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, read(c.header))
		})
	}
}

func TestA3BestOfSeveralChallengesIsTaken(t *testing.T) {
	for name, c := range map[string]struct {
		values []string
		want   bearer
	}{
		"basic, then bearer": {
			[]string{`Basic realm="x", Bearer realm="y",service="z"`}, bearer{"y", "z", "", true}},
		"bearer, then basic": {
			[]string{`Bearer realm="y", Basic realm="x",service="z"`}, bearer{"y", "", "", true}},
		"equals": {
			[]string{`Bearer realm="y", Bearer realm="x",service="z"`}, bearer{"y", "", "", true}},
		"a realm that can be asked": {
			[]string{`Bearer realm="Registry",scope="s", Bearer realm="HTTPS://a.test"`},
			bearer{"HTTPS://a.test", "", "", true}},
		"a path that can be asked": {
			[]string{`Bearer realm="Registry",scope="s", Bearer realm="/token"`},
			bearer{"/token", "", "", true}},
		"any realm": {[]string{`Bearer scope="s", Bearer realm="x"`}, bearer{"x", "", "", true}},
		"with a scope": {
			[]string{`Bearer realm="http://a.test"`, `Bearer realm="http://b.test",scope="s"`},
			bearer{"http://b.test", "", "s", true}},
		"open quotes in another value": {
			[]string{`Basic realm="x`, `Bearer realm="https://a.test"`},
			bearer{"https://a.test", "", "", true}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, read(c.values...))
		})
	}
}

func TestA5TheNextUsableChallengeIsTaken(t *testing.T) {
	basic := Challenge{}
	bearer := func(realm string) Challenge { return Challenge{Scheme: "Bearer", Realm: realm} }
	usable := func(realm string) bool { return NamesServer(realm) && !strings.Contains(realm, "bad") }
	for name, c := range map[string]struct {
		values []string
		want   Challenge
	}{
		"bearer without a realm, then basic": {
			[]string{`Bearer service="s",scope="x", Basic realm="r"`}, basic},
		"in two values": {
			[]string{`Bearer`, `bASIC realm="r"`}, basic},
		"a realm that is a name": {
			[]string{`Bearer realm="Registry", Basic realm="r"`}, basic},
		"a realm that is refused": {
			[]string{`Bearer realm="http://bad/", Basic realm="r"`}, basic},
		"a realm that is refused, then another": {
			[]string{`Bearer realm="http://bad/",scope="s", Bearer realm="http://b", Basic realm="r"`},
			bearer("http://b")},
		"a realm that is refused, and no basic": {
			[]string{`Bearer realm="http://bad/"`}, bearer("http://bad/")},
		"no basic": {
			[]string{`Bearer service="s"`}, Challenge{Scheme: "Bearer", Service: "s"}},
		"basic in a quoted string": {
			[]string{`Bearer service="Basic realm=x"`},
			Challenge{Scheme: "Bearer", Service: "Basic realm=x"}},
		"a relative realm": {
			[]string{`Basic realm="r", Bearer realm="/token"`}, bearer("/token")},
		"a URL": {
			[]string{`Basic realm="r"`, `Bearer realm="https://a.test/token"`},
			bearer("https://a.test/token")},
		"nothing": {nil, basic},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, Best(usable, c.values...)) })
	}
}

func TestA6Denied(t *testing.T) {
	assert.True(t, IsDenied(`Bearer realm="r",error="insufficient_scope"`))
	assert.True(t, IsDenied(`Basic realm="b"`, `Bearer error=insufficient_scope`))
	assert.True(t, IsDenied(`Bearer Error="Insufficient_Scope"`))
	assert.False(t, IsDenied(`Bearer realm="r",error="invalid_token"`))
	assert.False(t, IsDenied(`Bearer realm="insufficient_scope"`))
	assert.False(t, IsDenied())
}

func TestParse(t *testing.T) {
	got := challenges(`Negotiate, Bearer realm="r",error="insufficient_scope"`, `Basic realm="b"`)
	assert.Equal(t, []Challenge{
		{Scheme: "Negotiate"},
		{Scheme: "Bearer", Realm: "r", Error: "insufficient_scope"},
		{Scheme: "Basic", Realm: "b"},
	}, got)
}

const bound = 8 << 10 // as many bytes are read

func TestI12ChallengeIsBounded(t *testing.T) {
	for _, values := range [][]string{
		{"Bearer " + strings.Repeat(`realm="x",`, 1<<17) + `service="y"`},
		{`Bearer realm="` + strings.Repeat("x", 1<<20)},
		{strings.Repeat("Basic ", 1<<18) + `Bearer service="y"`},
		{"Bearer " + strings.Repeat("\x00", 1<<20) + `service="y"`},
		{`Bearer scope="` + strings.Repeat(`\`, 1<<20) + `",service="y"`},
		{`Bearer realm="` + strings.Repeat("x", bound), `Bearer realm="https://x",service="y"`},
	} {
		c := read(values...)
		assert.Empty(t, c.service, "what comes after %d bytes is not read", bound)
		assert.LessOrEqual(t, len(c.realm)+len(c.scope), bound)
	}
}

func FuzzI12Parse(f *testing.F) {
	for _, seed := range []string{
		`Basic realm="x", Bearer realm="https://a.test",service="s"`, `Basic realm="Bearer realm=evil"`,
		`Bearer realm="a\"b\\c\d",service="x"`, `bEARER realm=https://a.test/token,scope=a b`,
		"Bearer r\xe9\xff\x00alm=x,service=y", `,,=,Bearer ;;realm="x"`, `Bearer realm="x\`,
		`Basic realm="x, Bearer realm=evil", Bearer`,
		`Bearer error="insufficient_scope", Bearer`, `Negotiate abc==`, `Negotiate abc==, Bearer realm=y`,
		`Bearer realm="y", Bearer realm="x",service="z"`, `Bearer realm="http://169.254.169.254/",scope=""`,
		`Bearer xrealm="evil",realm="x"`,
	} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		size := 0
		for _, c := range challenges(one, other) {
			size += len(c.Scheme) + len(c.Realm) + len(c.Service) + len(c.Scope) + len(c.Error)
		}
		if size > min(len(one)+len(other), bound) {
			t.Errorf("%q, %q: more than was there", one, other)
		}
		c := read(one, other)
		if c.ok && !strings.Contains(strings.ToLower(one+"\n"+other), "bearer") {
			t.Errorf("%q, %q: %+v, though the scheme is another", one, other, c)
		}
		// A challenge that was understood is understood again, whatever its values are made of.
		if again := read(format(c)); c.ok && len(one)+len(other) < bound/4 && again != c {
			t.Errorf("%q, %q: %+v is read again as %+v", one, other, c, again)
		}
	})
}

// format writes a challenge as a registry does.
func format(c bearer) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	return `Bearer realm="` + quote.Replace(c.realm) + `",service="` + quote.Replace(c.service) +
		`",scope="` + quote.Replace(c.scope) + `"`
}

func BenchmarkBearer(b *testing.B) {
	const header = `Bearer realm="https://a.test/token",service="reg.test",scope="repository:a/b:pull"`
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, ok := Bearer(header); !ok {
			b.Fatal("no challenge")
		}
	}
}
