package exchange

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/retry"
)

func TestN19ParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"1":                              time.Second,
		"119":                            119 * time.Second,
		"120":                            retry.MaxAsked,
		"121":                            121 * time.Second,
		"86400":                          24 * time.Hour,
		"86401":                          retry.MaxAsked,
		"1000000000":                     retry.MaxAsked,
		"9223372036854775807":            retry.MaxAsked,
		"9223372036854775808":            retry.MaxAsked,
		"99999999999999999999999999":     retry.MaxAsked,
		"-1":                             0,
		"+1":                             0,
		"1.5":                            0,
		"1e9":                            0,
		" 1":                             0,
		"soon":                           0,
		"Sun, 01 Mar 2026 12:00:30 GMT":  30 * time.Second,
		"Sun, 01 Mar 2026 11:00:00 GMT":  0,
		"Sun, 01 Mar 9999 12:00:00 GMT":  retry.MaxAsked,
		"Sunday, 01-Mar-26 12:00:09 GMT": 9 * time.Second,
		"Sun Mar  1 12:00:08 2026":       8 * time.Second,
	} {
		assert.Equal(t, want, parseRetryAfter(value, now), "%q", value)
	}
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{
		"", "1", "-1", "1e9", "18446744073709551616", now.Format(http.TimeFormat), "Sun Mar  1 12:00:08 2026",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		d := parseRetryAfter(value, now)
		require.GreaterOrEqual(t, d, time.Duration(0))
		require.LessOrEqual(t, d, 24*time.Hour)
	})
}
