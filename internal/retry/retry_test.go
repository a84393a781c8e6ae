package retry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
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
		"permanent":            {retry.Permanent(io.ErrUnexpectedEOF), false},
		"permanent but":        {retry.OtherWay(retry.Permanent(io.ErrUnexpectedEOF)), true},
		"the outermost counts": {retry.Permanent(retry.Transient(io.ErrUnexpectedEOF)), false},
		"transient":            {retry.Transient(path(syscall.EIO)), true},
		"redirect":             {wire.ErrRedirectRefused, false},
		"certificate":          {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, false},
		"N33 refused":          {dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), true},
		"N32 no such host":     {dial(&net.DNSError{IsNotFound: true}), false},
		"N32 SERVFAIL":         {dial(&net.DNSError{IsTemporary: true}), true},
		"N35 proxy":            {errors.New("Proxy Authentication Required"), false},
		"I14 headers": {
			errors.New("net/http: server response headers exceeded 1048576 bytes"), false,
		},
		"S1 disk full":         {path(syscall.ENOSPC), false},
		"S2 disk broken":       {path(syscall.EIO), false},
		"S3 quota":             {path(syscall.EDQUOT), false},
		"S4 read-only":         {path(syscall.EROFS), false},
		"S17 descriptors":      {path(syscall.EMFILE), true},
		"S17 of the system":    {path(syscall.ENFILE), true},
		"S17 while it dials":   {dial(os.NewSyscallError("socket", syscall.EMFILE)), true},
		"wrapped disk is full": {fmt.Errorf("storing: %w", path(syscall.ENOSPC)), false},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, retry.Retryable(c.err)) })
	}
}

func TestDelayGrowsWithJitter(t *testing.T) {
	for attempt, want := range []time.Duration{200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		want *= time.Millisecond
		seen := make(map[time.Duration]bool)
		for range 100 {
			d := retry.Delay(attempt, retry.MaxDelay)
			seen[d] = true
			assert.LessOrEqual(t, d, want)
			assert.GreaterOrEqual(t, d, want/2)
		}
		assert.Greater(t, len(seen), 90)
	}
	for _, attempt := range []int{-1, 63, 64, 1 << 30} {
		delay := retry.Delay(attempt, time.Second)
		assert.InDelta(t, 750*time.Millisecond, delay, float64(250*time.Millisecond))
	}
	assert.Zero(t, retry.Delay(5, 0))
}

func TestN38SleepEndsBeforeItBegins(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	for range 100 {
		require.ErrorIs(t, retry.Sleep(ctx, 0), reason)
	}
}

// Every wait ends with the context, for its reason.
func TestSleepEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := errors.New("ours")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(ours) })
		start := time.Now()
		require.ErrorIs(t, retry.Sleep(ctx, time.Hour), ours)
		require.ErrorIs(t, retry.Sleep(ctx, time.Hour), ours)
		assert.Equal(t, time.Second, time.Since(start))
	})
}

func TestOtherWayIsToldInOneLine(t *testing.T) {
	err := retry.OtherWay(io.ErrUnexpectedEOF)
	require.EqualError(t, err, "trying another way: unexpected EOF")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.True(t, retry.IsOtherWay(err))
}

// A budget runs while at least one worker tries, and no other time.
func TestE1BudgetRunsWhileSomebodyTries(t *testing.T) {
	const second = time.Second
	for name, c := range map[string]struct {
		others func(b *retry.Budget) // before a worker, which tried for 10 s, tries again
		left   time.Duration         // of 100 s
	}{
		"nobody tries": {func(*retry.Budget) { time.Sleep(time.Hour) }, 90 * second},
		"another tries": {func(b *retry.Budget) {
			b.Begin()
			time.Sleep(30 * second)
			b.End()
			time.Sleep(time.Hour)
		}, 60 * second},
		"two others try": {func(b *retry.Budget) {
			b.Begin()
			time.Sleep(20 * second)
			b.Begin()
			time.Sleep(10 * second)
			b.End()
			time.Sleep(10 * second)
			b.End()
			time.Sleep(time.Hour)
		}, 50 * second},
		"new bytes have come": {func(b *retry.Budget) {
			b.Begin()
			time.Sleep(20 * second)
			b.Renew()
			time.Sleep(5 * second)
			b.End()
			time.Sleep(time.Hour)
		}, 95 * second},
	} {
		inBubble(t, name, func(t *testing.T) {
			b := retry.NewBudget(100 * second)
			b.Begin()
			time.Sleep(10 * second)
			b.End()
			c.others(b)
			b.Begin()
			assert.Equal(t, c.left, b.Left())
			time.Sleep(second)
			assert.Equal(t, c.left-second, b.Left())
			b.Renew()
			assert.Equal(t, 100*second, b.Left())
		})
	}
}

// The loop tries, and its budget runs, from its beginning to its end.
func TestE1BudgetRunsInTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retry.NewBudget(time.Minute)
		for left := range 3 {
			require.NoError(t, newLoop(true).Run(t.Context(), b, "x", func(context.Context) (bool, error) {
				time.Sleep(10 * time.Second)
				return false, nil
			}))
			time.Sleep(time.Hour)
			assert.Equal(t, time.Minute-time.Duration(left+1)*10*time.Second, b.Left())
		}
	})
}

// The waits double as far as the budget lets them, whatever their numbers are.
func TestN44WaitsDoubleWithinTheBudget(t *testing.T) {
	const second, most = time.Second, time.Duration(math.MaxInt64)
	for _, c := range []struct {
		budget, first time.Duration
		missed        int
		want          time.Duration // in all
	}{
		{100 * second, 10 * second, 0, 10 * second}, {100 * second, 10 * second, 3, 80 * second},
		{100 * second, 10 * second, 4, 100 * second}, {100 * second, 60 * second, 1, 100 * second},
		{second, 10 * second, 5, 10 * second}, {most, most, 5, most}, {most, 10 * second, math.MaxInt, most},
	} {
		synctest.Test(t, func(t *testing.T) {
			assert.Equal(t, c.want, c.first+retry.NewBudget(c.budget).Longer(c.first, c.missed), "%+v", c)
		})
	}
}

func newLoop(answered bool) *retry.Loop {
	return &retry.Loop{
		Answered: func() bool { return answered }, Overloaded: func() {}, Log: slog.New(slog.DiscardHandler),
	}
}

// inBubble runs a subtest with faked time.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

func TestLoopGivesUp(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		answered bool
		tries    int // at least
		took     time.Duration
	}{
		"N33 soon where nobody has answered": {false, retry.MaxTries, 7 * time.Second},
		"at the end of the budget":           {true, 10, time.Minute},
	} {
		inBubble(t, name, func(t *testing.T) {
			start, tries := time.Now(), 0
			budget := retry.NewBudget(time.Minute)
			err := newLoop(c.answered).Run(t.Context(), budget, "x", func(context.Context) (bool, error) {
				tries++
				return false, broken
			})
			require.ErrorIs(t, err, retry.ErrExhausted)
			require.ErrorIs(t, err, broken)
			assert.GreaterOrEqual(t, tries, c.tries)
			assert.LessOrEqual(t, time.Since(start), c.took)
		})
	}
}

func TestLoopBeginsAgainWithNewBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		b := retry.NewBudget(time.Second)
		err := newLoop(true).Run(t.Context(), b, "x", func(context.Context) (bool, error) {
			if tries++; tries == 100 {
				return true, nil
			}
			time.Sleep(900 * time.Millisecond)
			return true, io.ErrUnexpectedEOF
		})
		require.NoError(t, err)
	})
}

// A server that wants to be left alone for longer than the budget allows ends the blob at once.
func TestN45RetryAfterBeyondTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, busy, tries := time.Now(), errors.New("busy"), 0
		b := retry.NewBudget(time.Minute)
		err := newLoop(true).Run(t.Context(), b, "x", func(context.Context) (bool, error) {
			if tries++; tries > 1 {
				return false, nil
			}
			return false, retry.After(time.Hour, retry.Transient(busy))
		})
		require.ErrorIs(t, err, retry.ErrExhausted)
		require.ErrorIs(t, err, busy)
		assert.ErrorContains(t, err, "1h0m0s")
		long, ok := errors.AsType[*retry.LongWait](err)
		require.True(t, ok)
		assert.Equal(t, retry.LongWait{Host: "the server", Wait: time.Hour, Left: time.Minute}, *long)
		assert.Zero(t, time.Since(start))
	})
}

// The next request may be led to a host that has not asked for anything yet.
func TestE13RetryAfterIsWaitedForWhoeverComesNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		b := retry.NewBudget(time.Minute)
		err := newLoop(true).Run(t.Context(), b, "x", func(context.Context) (bool, error) {
			tries++
			return false, retry.After(time.Second, retry.Transient(errors.New("busy")))
		})
		require.ErrorIs(t, err, retry.ErrExhausted)
		assert.LessOrEqual(t, tries, 61)
		assert.LessOrEqual(t, time.Since(start), time.Minute)
	})
}

// Where there is another way, a server that wants to be left alone is.
func TestE12RetryAfterIsNotWaitedForWhereThereIsAnotherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		b := retry.NewBudget(time.Minute)
		err := newLoop(true).Run(t.Context(), b, "x", func(context.Context) (bool, error) {
			if tries++; tries == 2 {
				return false, nil
			}
			return false, retry.OtherWay(retry.After(time.Hour, retry.Transient(errors.New("busy"))))
		})
		require.NoError(t, err)
		assert.Less(t, time.Since(start), time.Second)
	})
}

// A wait that cannot be meant is cut short, and the server asked again.
func TestE13LongRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		b := retry.NewBudget(time.Hour)
		err := newLoop(true).Run(t.Context(), b, "x", func(context.Context) (bool, error) {
			if tries++; tries == 2 {
				return false, nil
			}
			return false, retry.After(30*time.Minute, retry.Transient(errors.New("busy")))
		})
		require.NoError(t, err)
		assert.Equal(t, retry.MaxAsked, time.Since(start))
	})
}

// Time in which bytes were on their way is given back, never more than was spent, and three times in a row at
// most: who sends all of a large blob in vain again and again must come to an end. Attempts in which none
// were do not count.
func TestE19BudgetIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retry.NewBudget(time.Minute)
		b.Begin()
		time.Sleep(50 * time.Second)
		for range 3 {
			b.Forgive(0)
		}
		b.Forgive(20 * time.Second)
		assert.Equal(t, 30*time.Second, b.Left())
		b.Forgive(time.Hour)
		assert.Equal(t, time.Minute, b.Left())
		time.Sleep(10 * time.Second)
		b.End()
		b.Forgive(5 * time.Second)
		assert.Equal(t, 55*time.Second, b.Left())
		b.Forgive(time.Hour)
		assert.Equal(t, 55*time.Second, b.Left())
		b.Renew()
		b.Begin()
		time.Sleep(time.Second)
		b.Forgive(time.Hour)
		assert.Equal(t, time.Minute, b.Left())
	})
}
