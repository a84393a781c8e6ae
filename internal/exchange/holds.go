package exchange

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// maxBelieved is the longest Retry-After that is believed to be meant. More is a mistake and taken for
	// retry.MaxAsked, less is compared with what is left of the budget.
	maxBelieved = 24 * time.Hour

	// maxHolds bounds how many hosts are remembered: a server must not choose how much memory its answers
	// take.
	maxHolds = 1024
)

// holds remembers which hosts asked to be left alone until when. The zero value remembers none.
type holds struct {
	mu    sync.Mutex
	until map[string]time.Time // guarded by mu
}

// hold notes that a host asks to be left alone.
func (h *holds) hold(host string, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until == nil {
		h.until = make(map[string]time.Time)
	}
	if len(h.until) >= maxHolds {
		maps.DeleteFunc(h.until, func(_ string, until time.Time) bool { return time.Until(until) <= 0 })
	}
	_, known := h.until[host]
	until := time.Now().Add(min(wait, retry.MaxAsked))
	if until.After(h.until[host]) && (known || len(h.until) < maxHolds) {
		h.until[host] = until
	}
}

// Held returns for how long a host still wants to be left alone.
func (h *holds) Held(host string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	until, held := h.until[host]
	if !held {
		return 0
	}
	return time.Until(until)
}

// retryAfter returns for how long an answer asks to be left alone. Only failures that may pass ask for that.
func retryAfter(resp *wire.Response) time.Duration {
	if !wire.Temporary(resp.StatusCode) {
		return 0
	}
	return parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
}

// parseRetryAfter parses a Retry-After header, seconds or a date (RFC 9110 section 10.2.3). What cannot be
// understood is no wait, and what cannot be meant is retry.MaxAsked.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		wait = time.Duration(min(seconds, uint64(maxBelieved/time.Second)+1)) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		wait = maxBelieved + 1
	} else if date, err := http.ParseTime(value); err == nil {
		wait = max(0, date.Sub(now))
	}
	if wait > maxBelieved {
		return retry.MaxAsked
	}
	return wait
}
