package transfer_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// S20: a token that expires while the registry wants to be left alone costs a refresh, and no wait of
// its own.
func TestS20UnauthorizedDuringRetryAfter(t *testing.T) {
	cases := map[string][2]string{
		"one after the other": {"429(retry-after: 60)->401", "ok"},
		"of another blob":     {"429(retry-after: 60)", "delay(1s)+401"},
		"in the middle":       {"eof(300K)->503(retry-after: 60)->401", "ok"},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, scripts [2]string) {
		w := newWorld(t, mode, registrytest.Options{})
		b, other := w.remote(mebibyte), w.remote(1000)
		w.reg.Fault("GET", b.Digest, scripts[0])
		w.reg.Fault("GET", other.Digest, scripts[1])
		var tokens issuer
		opts := w.downloadOptions(b, other)
		opts.Token, opts.GetToken = "old", tokens.getToken
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Len(t, tokens.calls(), 1)
		assert.InDelta(t, 60, took.Seconds(), 2)
		assert.Zero(t, w.progress.falls)
		w.requireOnly(b, other)
	})
}

// I13: of an error body no more is read than tells something.
func TestI13DownloadErrorBodies(t *testing.T) {
	cases := map[string]int{
		"**404+errorbody(endless)": 404, "**403+errorbody(1G)": 403, "503+errorbody(endless)": 0,
		"**404+errorbody(0)": 404,
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, script string, want int) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, script)
		took, err := w.timed(w.downloadOptions(b))
		if want == 0 {
			require.NoError(t, err)
		} else {
			status := w.requireStatus(err, b, want)
			assert.Empty(t, status.Errors)
			assert.Less(t, len(err.Error()), 1000)
		}
		assert.Less(t, took, time.Second)
		assert.Less(t, w.reg.BytesSent(), int64(6*mebibyte), "64 KiB and what the connection buffers")
	})
}

// I13: an answer says what it says, though its body never comes.
func TestI13ErrorBodyThatStalls(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "**404+errorbody(100)+stall(10)")
		took, err := w.timed(w.downloadOptions(b))
		w.requireStatus(err, b, http.StatusNotFound)
		assert.Equal(t, 1, w.gets(b))
		assert.LessOrEqual(t, took, 11*time.Second)
	})
}

func TestN20Download(t *testing.T) {
	for _, code := range []int{408, 425, 429, 500, 502, 503, 504, 522, 524} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, fmt.Sprintf("3*%d", code))
				took, err := w.timed(w.downloadOptions(b))
				require.NoError(t, err)
				assert.Equal(t, 4, w.gets(b))
				assert.Greater(t, took, 700*time.Millisecond, "half of 0.2, 0.4 and 0.8 s at least")
				assert.Less(t, took, 2*time.Second)

				w.reg.Fault("GET", b.Digest, fmt.Sprintf("**%d", code))
				w.dir, w.progress = t.TempDir(), &progressLog{}
				took, err = w.timed(w.downloadOptions(b))
				w.requireStatus(err, b, code)
				w.requireExhausted(err, b, transfer.ErrRetriesExhausted)
				assert.InDelta(t, 5*time.Minute, took, float64(time.Second))
				assert.LessOrEqual(t, w.gets(b), 4+25)
				w.requireNothing(b)
			})
		})
	}
}

func TestN21Download(t *testing.T) {
	for _, code := range []int{400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 418, 451, 501, 505, 204, 304} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, fmt.Sprintf("**%d", code))
				took, err := w.timed(w.downloadOptions(b))
				status := w.requireStatus(err, b, code)
				if code >= 400 {
					assert.Equal(t, []transfer.RegistryError{{Code: "UNKNOWN", Message: "injected fault"}}, status.Errors)
				}
				assert.Equal(t, 1, w.gets(b))
				assert.Less(t, took, noBackoff)
				w.requireNothing(b)
			})
		})
	}
}

func TestRetryTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{time.Millisecond, time.Second, time.Minute, time.Hour} {
		t.Run(timeout.String(), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, "**503")
				opts := w.downloadOptions(b)
				opts.RetryTimeout = timeout
				took, err := w.timed(opts)
				require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
				assert.InDelta(t, timeout, took, float64(time.Millisecond))
				assert.LessOrEqual(t, w.gets(b), 12+int(timeout/(15*time.Second)),
					"at most 30 s lie between tries, and not much less")
			})
		})
	}
}

// As long as bytes come, however slowly, nothing is given up.
func TestRetryTimeoutBeginsAgainWithEachByte(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(10_000)
		w.reg.Fault("GET", b.Digest, "12*delay(9s)+slow(1000)+eof(500)")
		opts := w.downloadOptions(b)
		opts.RetryTimeout = 15 * time.Second
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Greater(t, took, 100*time.Second)
		assert.Equal(t, 13, w.gets(b))
	})
}

func TestN18N19RetryAfter(t *testing.T) {
	bubbleStart := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		value string
		wait  time.Duration // 0: the usual backoff
	}{
		{"1", time.Second},
		{"100", 100 * time.Second},
		{"0", 0},
		{"-1", 0},
		{"junk", 0},
		{"1e9", 0},
		{"1000000000", 2 * time.Minute},
		{"99999999999999999999999", 2 * time.Minute},
		{bubbleStart.Add(45 * time.Second).Format(http.TimeFormat), 45 * time.Second},
		{bubbleStart.Add(240 * time.Hour).Format(http.TimeFormat), 2 * time.Minute},
		{bubbleStart.Add(-time.Hour).Format(http.TimeFormat), 0},
	} {
		t.Run(c.value, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, "429(retry-after: "+c.value+")")
				took, err := w.timed(w.downloadOptions(b))
				require.NoError(t, err)
				assert.Equal(t, 2, w.gets(b))
				if c.wait > 0 {
					assert.Equal(t, c.wait+latency, took)
				} else {
					assert.LessOrEqual(t, took, 200*time.Millisecond+latency, "the longest first backoff")
				}
			})
		})
	}
}

// The wait that a registry asks for is one for all requests, those that wait for their turn too.
func TestN18RetryAfterIsHostWide(t *testing.T) {
	for _, c := range []struct{ concurrency, bodies int }{{2, 0}, {16, 1}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				start := time.Now()
				w := newWorld(t, mode, registrytest.Options{})
				opts := w.downloadOptions()
				for i := range 20 {
					opts.Blobs = append(opts.Blobs, w.remote(1000+i))
				}
				w.reg.Fault("GET", "", "2*delay(1s)->429(retry-after: 60)->**delay(1s)")
				opts.Concurrency, opts.BodyConcurrency = c.concurrency, c.bodies
				require.NoError(t, w.download(opts))
				assert.Len(t, w.reg.Requests(), 21)
				for _, r := range w.reg.Requests() {
					d := r.At.Sub(start)
					early := d > 2*time.Second && d < time.Minute && r.Status != http.StatusTooManyRequests
					assert.False(t, early, "a request after %v", d)
				}
			})
		})
	}
}
