package watchdog_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer/internal/watchdog"
)

func TestSpeedsMedian(t *testing.T) {
	for name, c := range map[string]struct {
		speeds []float64
		median float64
	}{
		"none":    {nil, 0},
		"one":     {[]float64{7}, 7},
		"outlier": {[]float64{1000000, 3, 1, 2, 4}, 3},
		"even":    {[]float64{4, 1, 3, 2}, 3},
		"same":    {[]float64{5, 5, 5}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			var s watchdog.Speeds
			for _, speed := range c.speeds {
				s.Record(speed)
			}
			assert.Equal(t, c.median, s.Median())
		})
	}
}

func TestSpeedsForget(t *testing.T) {
	var s watchdog.Speeds
	for range 1000 {
		s.Record(1)
	}
	for range 33 { // of the 64 that count
		s.Record(9)
	}
	assert.Equal(t, 9.0, s.Median())
}
