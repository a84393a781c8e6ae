package wire_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer/internal/wire"
)

func secrets(tokens ...string) *wire.Secrets {
	s := new(wire.Secrets)
	for _, token := range tokens {
		s.Add(token)
	}
	return s
}

func TestI22TokensAreMasked(t *testing.T) {
	for name, c := range map[string]struct {
		tokens     []string
		text, want string
	}{
		"none":            {nil, "token first-token", "token first-token"},
		"empty":           {[]string{""}, "abc", "abc"},
		"the current one": {[]string{"first-token", "second-token"}, "x second-token y", "x *** y"},
		"a replaced one":  {[]string{"first-token", "second-token"}, "x first-token y", "x *** y"},
		"both, twice": {
			[]string{"first-token", "second-token"}, "first-token,second-token,first-token", "***,***,***"},
		"cut short":         {[]string{"first-token", "second-token"}, "x first-to", "x ***"},
		"cut very short":    {[]string{"first-token"}, "x fir", "x fir"},
		"the longest cut":   {[]string{"xx-token", "token-xx-t"}, "a token-xx-t", "a ***"},
		"prefix of another": {[]string{"token", "token-and-more"}, "a token-and-more b", "a *** b"},
		"prefix cut short":  {[]string{"token", "token-and-more"}, "a token-and", "a ***"},
		"in a URL":          {[]string{"a/b+c=="}, "/x?t=" + url.QueryEscape("a/b+c==") + "&y", "/x?t=***&y"},
		"after its scheme":  {[]string{"first-token"}, "you sent Bearer first-token", "you sent Bearer ***"},
		"Basic": {
			[]string{"Basic " + base64.StdEncoding.EncodeToString([]byte("me:secret"))},
			"Basic bWU6c2VjcmV0, user me:secret, Basic bWU6c2V", "Basic ***, user ***, Basic ***"},
		"Basic, empty":     {[]string{"Basic "}, "Basic auth", "Basic auth"},
		"Basic, no base64": {[]string{"Basic ???!"}, "x ???! y", "x *** y"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, secrets(c.tokens...).Mask(c.text))
		})
	}
}

func TestI22NumberOfTokensIsBounded(t *testing.T) {
	const many = 1000
	s := secrets()
	for i := range many {
		s.Add(fmt.Sprintf("token-%04d.", i))
		s.Add("token-0000.") // again
	}
	assert.Equal(t, "***", s.Mask("token-0000."), "the first may be valid for years")
	assert.NotEqual(t, "***", s.Mask("token-0001."), "forgotten")
	for i := many - 50; i < many; i++ {
		assert.Equal(t, "***", s.Mask(fmt.Sprintf("token-%04d.", i)))
	}
}

func TestI22SecretsAreSafeForConcurrentUse(t *testing.T) {
	s := secrets("first-token")
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 100 {
				s.Add(fmt.Sprintf("token-%d-%d", i, n))
				assert.Equal(t, "***", s.Mask("first-token"))
			}
		})
	}
	all.Wait()
}

func FuzzI22Mask(f *testing.F) {
	f.Add("token", "other-token", "a token, a tok")
	f.Add("Basic bWU6c2VjcmV0", "***", "me:secret*")
	f.Fuzz(func(t *testing.T, one, other, text string) {
		masked := secrets(one, other).Mask(text)
		for _, token := range []string{one, other} {
			basic := strings.HasPrefix(strings.ToLower(token), "basic ")
			if token != "" && !basic && !strings.Contains(token, "*") && strings.Contains(masked, token) {
				t.Errorf("%q shows %q", masked, token)
			}
		}
	})
}
