package printable_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestH9WhatATerminalWouldObeyIsTakenOut(t *testing.T) {
	for in, want := range map[string]string{
		"naïve 模型 🦙":               "naïve 模型 🦙",
		"a\x1b[31mb\rc\nd\te\x00f": "a [31mb c d e f",
		"a\u009b31mb\u0085c\x7fd":  "a 31mb c d",
		"a\u202eb\u2066c\u200bd":   "a b c d",
		"a\x9b31mb\xffc":           "a 31mb c", // not UTF-8
		"a\u2028b\u2029c\ufeffd":   "a b c d",
		"a\U000e0041b\U000e007fc":  "a b c",
	} {
		assert.Equal(t, want, printable.Text(in), "%q", in)
	}
}

func FuzzH9Printable(f *testing.F) {
	f.Add("a\u009bb\U000e0041\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		text := printable.Text(s)
		assert.True(t, utf8.ValidString(text))
		assert.Equal(t, utf8.RuneCountInString(s), utf8.RuneCountInString(text))
		assert.Equal(t, text, printable.Text(text))
		data, err := json.Marshal(map[string]string{"s": s})
		require.NoError(t, err)
		escaped := printable.JSON(data)
		assert.False(t, strings.ContainsFunc(string(escaped), func(r rune) bool {
			return r != unicode.ReplacementChar && !unicode.IsPrint(r)
		}), "%q", escaped)
		var was, is map[string]string
		require.NoError(t, json.Unmarshal(data, &was))
		require.NoError(t, json.Unmarshal(escaped, &is))
		assert.Equal(t, was, is)
	})
}
