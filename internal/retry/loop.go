package retry

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// MaxTries is how often a registry is tried that has not answered once in this call: it is more likely
// misspelt than about to come back.
const MaxTries = 6

// MaxAsked is the longest time that a server is left alone for. One that asked for more is asked again
// earlier, and may say so again.
const MaxAsked = 2 * time.Minute

// Loop makes attempts until one succeeds, one fails for good, or the budget is spent.
type Loop struct {
	// Answered tells whether the registry has answered in this call. Before, it is tried MaxTries times.
	Answered func() bool

	// Overloaded is told of each failure that a server with too many requests would show.
	Overloaded func()

	// Unhurried tells which errors Overloaded is not told of, besides those of [OtherWay]. Nil means none.
	Unhurried func(error) bool

	// Retrying is told of each attempt that failed and is followed by another, by how many have in a row. Nil
	// means that nobody wants to know.
	Retrying func(attempt int, wait time.Duration, err error)

	Log *slog.Logger
}

// Run makes attempts at the subject, such as a digest. An attempt tells whether it brought anything new,
// which makes the budget full. The error is that of the last attempt, with [ErrExhausted] where it was worth
// another, or the cause of the context. The budget runs meanwhile.
func (l *Loop) Run(
	ctx context.Context, b *Budget, subject string, attempt func(context.Context) (moved bool, err error),
) error {
	b.Begin()
	defer b.End()
	for n := 0; ; n++ {
		moved, err := attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if moved {
			n = 0
			b.Renew()
		}
		if !Retryable(err) {
			return err
		}
		if err := l.wait(ctx, b, subject, n, err); err != nil {
			return err
		}
	}
}

// wait waits after attempt number n failed with cause.
func (l *Loop) wait(ctx context.Context, b *Budget, subject string, n int, cause error) error {
	left := b.Left()
	if left <= 0 || n+1 >= MaxTries && !l.Answered() {
		return fmt.Errorf("%w: %w", ErrExhausted, cause)
	}
	if !IsOtherWay(cause) && (l.Unhurried == nil || !l.Unhurried(cause)) {
		l.Overloaded()
	}
	if asked := Asked(cause); asked > left {
		return fmt.Errorf("%w: %w", TooLong("the server", asked, left), cause)
	} else if asked > 0 {
		l.Log.LogAttrs(ctx, slog.LevelWarn, "server asks to be left alone", slog.String("digest", subject),
			slog.Duration("wait", asked), slog.Any("error", cause))
		// A request to that host would wait as long, but the next may be led to another one.
		return l.sleep(ctx, n, min(asked, MaxAsked), cause)
	}
	// The jitter is not taken of what is left, or it would halve that again and again.
	wait := min(Delay(n, MaxDelay), left)
	l.Log.LogAttrs(ctx, slog.LevelWarn, "attempt failed, trying again", slog.String("digest", subject),
		slog.Int("attempt", n+1), slog.Duration("wait", wait), slog.Any("error", cause))
	return l.sleep(ctx, n, wait, cause)
}

func (l *Loop) sleep(ctx context.Context, n int, wait time.Duration, cause error) error {
	if l.Retrying != nil {
		l.Retrying(n+1, wait, cause)
	}
	return Sleep(ctx, wait)
}

// TooLong is the error of a wait that a host asked for and that the budget does not allow. It is not worth
// another attempt.
func TooLong(host string, wait, left time.Duration) error {
	return Permanent(&LongWait{host, wait.Truncate(time.Second), max(0, left).Truncate(time.Second)})
}

// LongWait says how long a host wants to be left alone, and how much of the budget is left.
type LongWait struct {
	Host       string
	Wait, Left time.Duration
}

func (e *LongWait) Error() string {
	return fmt.Sprintf("%v: %s asks to be left alone for %v, longer than the %v that are left (%s)",
		ErrExhausted, e.Host, e.Wait, e.Left, e.Advice())
}

func (e *LongWait) Unwrap() error { return ErrExhausted }

// Advice says what a program may do, as it is in brackets at the end of the message.
func (e *LongWait) Advice() string { return "a longer RetryTimeout allows it" }
