package wire

import (
	"encoding/json"
	"encoding/xml"
	"html"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// Limits of what is read and kept of an error answer, to keep a server from filling
// memory or a log.
const (
	maxErrorBody    = 64 << 10 // bytes
	maxErrors       = 8
	maxErrorMessage = 256 // bytes
)

// RegistryError is one error of an error answer (OCI distribution spec, "Error Codes").
type RegistryError struct {
	Code    string
	Message string
}

// ReadErrors reads what the body of an error answer says, and all digests that are named in it.
//
// Besides the form of the OCI distribution spec it understands other JSON, the XML of object stores,
// the title of a web page, and plain text. An error of these may have no code. A body in another form,
// or a text that goes on beyond the limit, has no errors.
func ReadErrors(body io.Reader) (errs []RegistryError, digests []digest.Digest) {
	data, _ := io.ReadAll(io.LimitReader(body, maxErrorBody))
	for _, d := range digest.DigestRegexp.FindAll(data, -1) {
		digests = append(digests, digest.Digest(d))
	}
	for _, e := range parseErrors(data) {
		e = RegistryError{Code: printable(e.Code), Message: printable(e.Message)}
		if e != (RegistryError{}) && len(errs) < maxErrors {
			errs = append(errs, e)
		}
	}
	return errs, digests
}

func parseErrors(data []byte) []RegistryError {
	var answer any
	if json.Unmarshal(data, &answer) == nil {
		return jsonErrors(answer)
	}
	text := strings.TrimSpace(strings.TrimPrefix(string(data), "\ufeff"))
	switch {
	case strings.HasPrefix(text, "<"):
		if e, ok := xmlError(text); ok {
			return []RegistryError{e}
		}
		return []RegistryError{{Message: pageTitle(text)}}
	case len(data) == maxErrorBody || !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return nil
	}
	words := strings.Fields(text[:min(len(text), 2*maxErrorMessage)])
	return []RegistryError{{Message: strings.Join(words, " ")}}
}

// jsonErrors returns the errors of the specification's form or, where there are none, the one that the
// answer itself is.
func jsonErrors(answer any) (errs []RegistryError) {
	if object, ok := answer.(map[string]any); ok {
		if list, ok := field(object, "errors").([]any); ok && len(list) > 0 {
			answer = list
		}
	}
	list, ok := answer.([]any)
	if !ok {
		list = []any{answer}
	}
	for _, item := range list {
		errs = append(errs, jsonError(item, 1))
	}
	return errs
}

// maxErrorDepth is how many objects deep an error may be in another.
const maxErrorDepth = 3

// messageFields are what servers call a message, the clearest first.
var messageFields = []string{"message", "error_description", "msg", "details", "detail", "title", "reason"}

func jsonError(value any, depth int) RegistryError {
	if text, ok := value.(string); ok {
		return RegistryError{Message: text}
	}
	object, ok := value.(map[string]any)
	if !ok || depth > maxErrorDepth {
		return RegistryError{}
	}
	for _, name := range []string{"error", "errors"} {
		if inner, ok := field(object, name).(map[string]any); ok {
			return jsonError(inner, depth+1)
		}
	}
	e := RegistryError{Code: firstText(object, "code"), Message: firstText(object, messageFields...)}
	// OAuth 2 (RFC 6749 section 5.2) and others have a short and a long text.
	if short := firstText(object, "error", "errors"); e.Message == "" {
		e.Message = short
	} else if short != "" && !strings.EqualFold(short, e.Message) {
		e.Message = short + ": " + e.Message
	}
	return e
}

// field returns the field of an object whatever its case.
func field(object map[string]any, name string) any {
	if value, ok := object[name]; ok {
		return value
	}
	for key, value := range object {
		if strings.EqualFold(key, name) {
			return value
		}
	}
	return nil
}

// firstText returns the first of the fields that is a text.
func firstText(object map[string]any, names ...string) string {
	for _, name := range names {
		if text, ok := field(object, name).(string); ok && text != "" {
			return text
		}
	}
	return ""
}

// xmlError parses the error of an object store (Amazon S3 API, "REST error responses").
func xmlError(text string) (e RegistryError, ok bool) {
	var answer struct {
		Code, Message string
		Error         struct{ Code, Message string } // of services that wrap it
	}
	if xml.Unmarshal([]byte(text), &answer) != nil {
		return e, false
	}
	if answer.Code == "" && answer.Message == "" {
		answer.Code, answer.Message = answer.Error.Code, answer.Error.Message
	}
	e = RegistryError{Code: strings.TrimSpace(answer.Code), Message: strings.TrimSpace(answer.Message)}
	return e, e != RegistryError{}
}

var title = regexp.MustCompile(`(?is)<(?:title|h1)\b[^>]*>([^<]*)<`)

// pageTitle returns the title or the first heading of a web page.
func pageTitle(page string) string {
	for _, match := range title.FindAllStringSubmatch(page, maxErrors) {
		if text := strings.Join(strings.Fields(html.UnescapeString(match[1])), " "); text != "" {
			return text
		}
	}
	return ""
}

func printable(s string) string {
	return printableAll(strings.ToValidUTF8(s[:min(len(s), maxErrorMessage)], ""))
}

func printableAll(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
