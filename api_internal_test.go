package transfer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The private names that the tests of programs use which have a copy of this package in their tree.
var (
	_ func(digest string) string                                             = digestToPath
	_ func(header string) AuthChallenge                                      = parseAuthChallenge
	_ func(ctx context.Context, attempt int, maxBackoff time.Duration) error = backoff

	_ string        = defaultUserAgent
	_ time.Duration = defaultStallTimeout
	_ int           = maxRetries

	_ progressTracker
	_ speedTracker
)

func TestAPIPrivateNames(t *testing.T) {
	for digest, path := range map[string]string{
		"sha256:abc": "sha256-abc", "sha256-abc": "sha256-abc", "x": "x",
	} {
		assert.Equal(t, path, digestToPath(digest))
	}
	header := `Bearer realm="https://auth.test/token",service="registry",scope="repository:a/b:pull"`
	assert.Equal(t, AuthChallenge{
		Realm: "https://auth.test/token", Service: "registry", Scope: "repository:a/b:pull",
	}, parseAuthChallenge(header))
	assert.NotEmpty(t, defaultUserAgent)
	assert.Equal(t, 10*time.Second, defaultStallTimeout)
	assert.Equal(t, 6, maxRetries)
}

func TestAPIPrivateBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		require.NoError(t, backoff(t.Context(), 100, time.Second))
		assert.InDelta(t, 750*time.Millisecond, time.Since(begun), float64(250*time.Millisecond))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, backoff(ctx, 1, time.Hour), context.Canceled)
	})
}

func TestAPIPrivateTrackers(t *testing.T) {
	var s speedTracker
	for _, speed := range []float64{1, 100, 3} {
		s.Record(speed)
	}
	assert.Equal(t, 3.0, s.Median())

	var completed, total int64
	p := newProgressTracker(10, func(c, of int64) { completed, total = c, of }, func() {})
	p.start(4)
	p.add(6)
	assert.Nil(t, p.finish(t.Context()))
	assert.Equal(t, [2]int64{10, 10}, [2]int64{completed, total})
}
