package wire

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
)

// countingBody is an endless body that knows how much of it was read.
type countingBody struct {
	read   int
	closed bool
}

func (b *countingBody) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	b.read += len(p)
	return len(p), nil
}

func (b *countingBody) Close() error { b.closed = true; return nil }

func TestI13EndlessErrorBodyIsNotRead(t *testing.T) {
	body := &countingBody{}
	errs, _ := ReadErrors(body)
	assert.Empty(t, errs)
	assert.LessOrEqual(t, body.read, 2*maxErrorBody)
}

func read(body string) []RegistryError {
	errs, _ := ReadErrors(strings.NewReader(body))
	return errs
}

func TestReadErrors(t *testing.T) {
	assert.Equal(t, []RegistryError{{"DENIED", "no"}},
		read(`{"errors":[{"code":"DENIED","message":"no","detail":{"x":1}}]}`))
	assert.Equal(t, []RegistryError{{"A B", "line  two"}},
		read(`{"errors":[{"code":"A\u0007B","message":"line\n\u001btwo"}]}`))
	assert.Empty(t, read(`<html>`))
	assert.Empty(t, read(``))
	assert.Len(t, read(`{"errors":[`+strings.Repeat(`{"code":"A"},`, 100)+`{"code":"A"}]}`), maxErrors)
	long := read(`{"errors":[{"code":"A","message":"` + strings.Repeat("é", 1000) + `"}]}`)
	assert.LessOrEqual(t, len(long[0].Message), maxErrorMessage)
}

func TestReadErrorsFindsTheDigestsNamed(t *testing.T) {
	dg := digest.FromString("x")
	body := `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","detail":{"Digest":"` + dg.String() + `"}}]}`
	_, named := ReadErrors(strings.NewReader(body))
	assert.Equal(t, []digest.Digest{dg}, named)
}

func TestReadErrorsOfOtherForms(t *testing.T) {
	for body, want := range map[string]RegistryError{
		"access denied":                                                       {"", "access denied"},
		" \n404\tnot \x1b[31m found\r\n ":                                     {"", "404 not  [31m found"},
		"\ufeffé":                                                             {"", "é"},
		`"unauthorized"`:                                                      {"", "unauthorized"},
		`{"error":"access denied"}`:                                           {"", "access denied"},
		`{"message":"no such model"}`:                                         {"", "no such model"},
		`{"Message":"no such model"}`:                                         {"", "no such model"},
		`{"details":"wrong password"}`:                                        {"", "wrong password"},
		`{"detail":"not here","status":404}`:                                  {"", "not here"},
		`{"code":401,"message":"no"}`:                                         {"", "no"},
		`{"error":{"code":403,"message":"denied","status":1}}`:                {"", "denied"},
		`{"error":{"code":"Forbidden","message":"denied"}}`:                   {"Forbidden", "denied"},
		`{"error":"invalid_token","error_description":"old"}`:                 {"", "invalid_token: old"},
		`{"error":"Not Found","message":"not found"}`:                         {"", "not found"},
		`{"errors":["access denied"]}`:                                        {"", "access denied"},
		`{"errors":"access denied"}`:                                          {"", "access denied"},
		`{"errors":{"detail":"Not Found"}}`:                                   {"", "Not Found"},
		`{"errors":[{"status":404,"message":"gone"}]}`:                        {"", "gone"},
		`{"errors":[{"code":"DENIED","detail":"why"}]}`:                       {"DENIED", "why"},
		`{"errors":[],"message":"gone"}`:                                      {"", "gone"},
		`[{"code":"DENIED","message":"no"}]`:                                  {"DENIED", "no"},
		`{"error":"cut short`:                                                 {"", `{"error":"cut short`},
		"<html>\n<head><title>\n 403 &lt;Forbidden&gt; </title></head><body>": {"", "403 <Forbidden>"},
		"<!DOCTYPE html><TITLE></TITLE><h1 class=x>Sign in</h1>":              {"", "Sign in"},
	} {
		assert.Equal(t, []RegistryError{want}, read(body), "%q", body)
	}
	for _, body := range []string{
		"", " ", "{}", "[]", "null", "42", `{"ok":true}`, `{"errors":[{}]}`, `{"errors":[[]]}`,
		`{"error":{}}`, `""`,
		"<html><body>a whole page</body></html>", "<", "<x/>", "\x1f\x8b\x08\x00", "a\x00b", "\xff",
		strings.Repeat(`{"error":`, 100) + `"deep"` + strings.Repeat("}", 100),
		strings.Repeat("a text that goes on ", 1<<12),
	} {
		assert.Empty(t, read(body), "%.80q", body)
	}
}

func TestU23ErrorsOfObjectStores(t *testing.T) {
	for body, want := range map[string]RegistryError{
		`<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>RequestTimeout</Code><Message>Your socket connection to the server was not read from
or written to within the timeout period.</Message><RequestId>1</RequestId></Error>`: {
			"RequestTimeout",
			"Your socket connection to the server was not read from or written to within the timeout period.",
		},
		"\ufeff" + `<?xml version="1.0"?><Error xmlns="x"><Code>Failed</Code></Error>`: {"Failed", ""},
		`<Response><Error><Code>A</Code><Message>b&#38;c</Message></Error></Response>`: {"A", "b&c"},
	} {
		assert.Equal(t, []RegistryError{want}, read(body), "%q", body)
	}
	assert.Empty(t, read(`<!DOCTYPE x [<!ENTITY a "aaaa">]><Error><Code>&a;</Code></Error>`))

	timeout := []RegistryError{{Code: "RequestTimeout"}}
	assert.True(t, TemporaryAnswer(400, timeout))
	assert.True(t, TemporaryAnswer(503, nil))
	assert.False(t, TemporaryAnswer(400, []RegistryError{{Code: "ExpiredToken"}}))
	assert.False(t, TemporaryAnswer(403, timeout))
	assert.False(t, TemporaryAnswer(400, nil))
}

func FuzzI13ReadErrors(f *testing.F) {
	for _, seed := range []string{
		`{"errors":[{"code":"DENIED","message":"no"}]}`, `{"error":{"message":"no"}}`, "access denied",
		"<title>x</title>", "<Error><Code>x</Code></Error>", "\ufeff<", `["a",{"b":[]}]`,
		"<title>" + strings.Repeat("é", maxErrorMessage),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		errs := read(body)
		if len(errs) > maxErrors {
			t.Errorf("%d errors", len(errs))
		}
		for _, e := range errs {
			for _, text := range []string{e.Code, e.Message} {
				if len(text) > maxErrorMessage || !utf8.ValidString(text) ||
					strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%q: %q", body, text)
				}
			}
		}
	})
}
