package transfer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRetryable(t *testing.T) {
	path := func(errno syscall.Errno) error { return &fs.PathError{Op: "write", Path: "x", Err: errno} }
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"unknown":              {errors.New("something"), true},
		"early end":            {io.ErrUnexpectedEOF, true},
		"stall":                {ErrStalled, true},
		"slow":                 {errSlow, true},
		"size":                 {ErrSizeMismatch, true},
		"protocol":             {ErrProtocol, true},
		"permanent":            {permanent(io.ErrUnexpectedEOF), false},
		"permanent but":        {errors.Join(errOtherWay, permanent(io.ErrUnexpectedEOF)), true},
		"redirect":             {ErrRedirectRefused, false},
		"certificate":          {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, false},
		"404":                  {&StatusError{StatusCode: 404}, false},
		"expired URL":          {errors.Join(errOtherWay, &StatusError{StatusCode: 403}), true},
		"503":                  {&StatusError{StatusCode: 503}, true},
		"N33 refused":          {dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), true},
		"N32 no such host":     {dial(&net.DNSError{IsNotFound: true}), false},
		"N32 SERVFAIL":         {dial(&net.DNSError{IsTemporary: true}), true},
		"N35 proxy":            {errors.New("Proxy Authentication Required"), false},
		"I14 headers":          {errors.New("net/http: server response headers exceeded 1048576 bytes; aborted"), false},
		"S1 disk full":         {path(syscall.ENOSPC), false},
		"S2 disk broken":       {path(syscall.EIO), false},
		"S3 quota":             {path(syscall.EDQUOT), false},
		"S4 read-only":         {path(syscall.EROFS), false},
		"S17 descriptors":      {path(syscall.EMFILE), true},
		"S17 of the system":    {path(syscall.ENFILE), true},
		"S17 while it dials":   {dial(os.NewSyscallError("socket", syscall.EMFILE)), true},
		"wrapped disk is full": {fmt.Errorf("storing: %w", path(syscall.ENOSPC)), false},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, retryable(c.err)) })
	}
}

func TestTemporaryStatus(t *testing.T) {
	temporary := map[int]bool{408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true, 522: true, 524: true}
	for code := 200; code < 600; code++ {
		assert.Equal(t, temporary[code], (&StatusError{StatusCode: code}).Temporary(), "%d", code)
	}
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for attempt, want := range []time.Duration{200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
			want *= time.Millisecond
			start := time.Now()
			require.NoError(t, backoff(t.Context(), attempt, backoffMax))
			assert.LessOrEqual(t, time.Since(start), want)
			assert.GreaterOrEqual(t, time.Since(start), want/2)
		}
		for _, attempt := range []int{-1, 63, 64, 1 << 40} {
			start := time.Now()
			require.NoError(t, backoff(t.Context(), attempt, time.Second))
			assert.InDelta(t, 750*time.Millisecond, time.Since(start), float64(250*time.Millisecond))
		}
		require.NoError(t, backoff(t.Context(), 5, 0))
	})
}

func TestBackoffHasJitter(t *testing.T) {
	seen := make(map[time.Duration]bool)
	for range 100 {
		seen[delay(5, backoffMax)] = true
	}
	assert.Greater(t, len(seen), 90)
}

// I7: every wait ends with the context, for its reason.
func TestBackoffEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := errors.New("ours")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(ours) })
		start := time.Now()
		require.ErrorIs(t, backoff(ctx, 20, time.Hour), ours)
		require.ErrorIs(t, backoff(ctx, 20, time.Hour), ours)
		assert.Equal(t, time.Second, time.Since(start))
	})
}

func TestN19ParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"1":                              time.Second,
		"119":                            119 * time.Second,
		"120":                            maxRetryAfter,
		"121":                            maxRetryAfter,
		"1000000000":                     maxRetryAfter,
		"9223372036854775807":            maxRetryAfter,
		"9223372036854775808":            maxRetryAfter,
		"99999999999999999999999999":     maxRetryAfter,
		"-1":                             0,
		"+1":                             0,
		"1.5":                            0,
		"1e9":                            0,
		" 1":                             0,
		"soon":                           0,
		"Sun, 01 Mar 2026 12:00:30 GMT":  30 * time.Second,
		"Sun, 01 Mar 2026 11:00:00 GMT":  0,
		"Sun, 01 Mar 9999 12:00:00 GMT":  maxRetryAfter,
		"Sunday, 01-Mar-26 12:00:09 GMT": 9 * time.Second,
		"Sun Mar  1 12:00:08 2026":       8 * time.Second,
	} {
		assert.Equal(t, want, parseRetryAfter(value, now), "%q", value)
	}
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{"", "1", "-1", "1e9", "18446744073709551616", now.Format(http.TimeFormat), "Sun Mar  1 12:00:08 2026"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		d := parseRetryAfter(value, now)
		require.GreaterOrEqual(t, d, time.Duration(0))
		require.LessOrEqual(t, d, maxRetryAfter)
	})
}

func TestPausesKeepTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pauses
		start := time.Now()
		require.NoError(t, p.wait(t.Context(), "a"))
		p.add("a", time.Minute)
		p.add("a", time.Second)
		require.NoError(t, p.wait(t.Context(), "b"))
		assert.Zero(t, time.Since(start))
		require.NoError(t, p.wait(t.Context(), "a"))
		assert.Equal(t, time.Minute, time.Since(start))
		require.NoError(t, p.wait(t.Context(), "a"))
		assert.Equal(t, time.Minute, time.Since(start))
	})
}

func TestN38SleepEndsBeforeItBegins(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	for range 100 {
		require.ErrorIs(t, sleep(ctx, 0), reason)
	}
}

func TestPatienceExcusesOnlyWaitingOfAll(t *testing.T) {
	for name, c := range map[string]struct {
		trying            int32
		tried, began, now time.Duration
		last              time.Duration // was 10 before
	}{
		"all wait":                       {0, 5, 20, 50, 40},
		"another is tried":               {1, 5, 20, 50, 10},
		"another was tried in between":   {0, 45, 20, 50, 15},
		"another has just ended":         {0, 50, 20, 50, 10},
		"longer than since the last one": {0, 0, 0, 30, 30},
	} {
		t.Run(name, func(t *testing.T) {
			var p patience
			p.trying.Store(c.trying)
			p.tried.Store(int64(c.tried))
			p.last.Store(10)
			p.excuse(c.began, c.now)
			assert.EqualValues(t, c.last, p.last.Load())
		})
	}
}
