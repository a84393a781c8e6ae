package transfer

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestI19ConcurrencyIsClamped(t *testing.T) {
	for given, want := range map[int]int{
		math.MinInt: 64, -1: 64, 0: 64, 1: 1, 1024: 1024, 1025: 1024, math.MaxInt: 1024,
	} {
		c, err := newCall(options{baseURL: "http://registry.test", concurrency: given, defaultConcurrency: 64})
		require.NoError(t, err)
		assert.Equal(t, want, c.concurrency, given)
	}
}
