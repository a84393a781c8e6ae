package registry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOneConnectionInSoManyIsSlow(t *testing.T) {
	k := Knobs{SlowEvery: 32, SlowRate: 5, ConnRate: 100}
	var slow []int64
	for n := range int64(96) {
		if k.rateOf(n) == 5 {
			slow = append(slow, n)
			continue
		}
		assert.EqualValues(t, 100, k.rateOf(n))
	}
	assert.Equal(t, []int64{2, 34, 66}, slow)
	assert.EqualValues(t, 5, Knobs{SlowEvery: 1, SlowRate: 5}.rateOf(7), "all of them")
}

func TestTotalRateCollapses(t *testing.T) {
	k := Knobs{TotalRate: 1600, CollapseAbove: 16}
	assert.EqualValues(t, 1600, k.totalRate(16))
	assert.EqualValues(t, 400, k.totalRate(32))
	assert.EqualValues(t, 100, k.totalRate(64))
	assert.EqualValues(t, 1, k.totalRate(1e6), "but never ends")
	assert.EqualValues(t, 0, Knobs{}.totalRate(64), "no limit")
}

func TestPacerKeepsToTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		start := time.Now()
		for range 11 {
			p.pay(100, 1000)
		}
		assert.Equal(t, time.Second, time.Since(start), "the first passes at once")
		time.Sleep(time.Hour)
		start = time.Now()
		p.pay(100, 1000)
		p.pay(100, 1000)
		assert.Equal(t, 100*time.Millisecond, time.Since(start), "what was not used is not saved")
		p.pay(1<<30, 0)
		assert.Equal(t, 100*time.Millisecond, time.Since(start))
	})
}

func TestRange(t *testing.T) {
	for header, want := range map[string][2]int64{
		"bytes=0-9": {0, 10}, "bytes=90-": {90, 100}, "bytes=50-1000": {50, 100},
	} {
		start, end, ok := parseRange(header, 100)
		require.True(t, ok, header)
		assert.Equal(t, want, [2]int64{start, end}, header)
	}
	for _, header := range []string{"", "bytes=", "bytes=a-b", "items=0-9", "bytes=5", "bytes=-5"} {
		_, _, ok := parseRange(header, 100)
		assert.False(t, ok, header)
	}
}
