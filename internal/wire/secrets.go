package wire

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
)

const (
	// maxSecrets is how many tokens are remembered: the first, which may be valid for years, and the newest.
	maxSecrets = 64

	// minQuote is from how many bytes on the beginning of a token at the end of a text is taken for one.
	// Fewer may be chance.
	minQuote = 4
)

// Secrets are the tokens of a call, those that were replaced included. A server may quote what it was
// sent, also long after. The zero value has none. All methods are safe for concurrent use.
type Secrets struct {
	mu     sync.RWMutex
	tokens []string // guarded by mu, oldest first
}

// Add remembers a token, as Request.Token has it.
func (s *Secrets) Add(token string) {
	if token == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.tokens, token) {
		return
	}
	if len(s.tokens) == maxSecrets {
		s.tokens = slices.Delete(s.tokens, 1, 2)
	}
	s.tokens = append(s.tokens, token)
}

// Mask returns the text with "***" for every token in it, and for a token at its end that was cut short.
func (s *Secrets) Mask(text string) string {
	s.mu.RLock()
	var forms []string
	for _, token := range s.tokens {
		forms = append(forms, tokenForms(token)...)
	}
	s.mu.RUnlock()
	// A token may be the beginning of another: the longest goes first, at the end of the text too.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	text = maskEnd(text, forms)
	for _, form := range forms {
		text = strings.ReplaceAll(text, form, "***")
	}
	return text
}

// maskEnd masks the longest beginning of a form that the text ends in.
func maskEnd(text string, forms []string) string {
	longest := 0
	for _, form := range forms {
		for n := min(len(form), len(text)); n >= minQuote && n > longest; n-- {
			if strings.HasSuffix(text, form[:n]) {
				longest = n
			}
		}
	}
	if longest == 0 {
		return text
	}
	return text[:len(text)-longest] + "***"
}

// minLine is from how many bytes on a line of a secret is one: shorter ones are words that others use too.
const minLine = 12

// lineForms returns what a secret with control characters is quoted as: printable, with its words apart as
// ReadErrors tells them, escaped as in JSON, and its lines.
func lineForms(secret string) (forms []string) {
	if !strings.ContainsFunc(secret, isControl) {
		return nil
	}
	forms = append(forms, printableAll(secret), strings.Join(strings.Fields(secret), " "))
	if quoted, err := json.Marshal(secret); err == nil {
		forms = append(forms, strings.Trim(string(quoted), `"`))
	}
	for line := range strings.FieldsFuncSeq(secret, isControl) {
		if line = strings.TrimSpace(line); len(line) >= minLine {
			forms = append(forms, line)
		}
	}
	return forms
}

// tokenForms returns what a token may look like in a text: as it is, escaped in a URL and, of Basic
// authentication, decoded. Of several lines, each that is long may be quoted alone.
func tokenForms(token string) []string {
	forms := []string{token}
	if encoded, ok := cutBasic(token); ok {
		encoded = strings.TrimSpace(encoded)
		forms = []string{encoded}
		if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			forms = append(forms, string(decoded))
		}
	}
	for _, form := range forms {
		forms = append(forms, lineForms(form)...)
	}
	for _, form := range forms {
		if escaped := url.QueryEscape(form); escaped != form {
			forms = append(forms, escaped)
		}
	}
	return slices.DeleteFunc(forms, func(form string) bool { return form == "" })
}
