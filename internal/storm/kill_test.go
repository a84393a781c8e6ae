//go:build linux

package storm

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// bytesPerSecond keeps the puller busy for long enough to be killed.
	bytesPerSecond = 400 << 20

	// waste is how much more than the blob may be sent, by all runs together.
	waste = 1.2
)

func TestS14Kills(t *testing.T) { killAndResume(t, 256<<20, 2) }

// killAndResume kills a puller at random moments and lets the next one go on, until one finishes. Each of the
// workers may lose in a kill what it has not recorded yet.
func killAndResume(t *testing.T, size int64, kills int) {
	s := newStream(t, size, bytesPerSecond)
	box := newSandbox(t, s.serve(t), blob{s.digest, size})

	begin := time.Now()
	for i, gap := range gaps(kills, size*9/10) {
		reached := s.after(gap)
		var stderr bytes.Buffer
		cmd := box.command(&stderr)
		require.NoError(t, cmd.Start())
		select {
		case <-reached:
		case <-t.Context().Done():
		}
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait(), "a run ended though less than the blob was sent")
		assert.Empty(t, box.check())
		t.Logf("kill %d: %d MiB sent", i+1, s.bytesSent()>>20)
	}
	box.pull()
	t.Logf("%d MiB sent of %d MiB, %.3f times, in %v", s.bytesSent()>>20, size>>20,
		float64(s.bytesSent())/float64(size), time.Since(begin))
	box.complete()
	assert.LessOrEqual(t, float64(s.bytesSent()), waste*float64(size))
}

// gaps returns n random parts of a sum.
func gaps(n int, sum int64) []int64 {
	random := rand.New(rand.NewPCG(14, uint64(n)))
	weights, all := make([]float64, n), 0.0
	for i := range weights {
		weights[i] = random.Float64()
		all += weights[i]
	}
	parts := make([]int64, n)
	for i, w := range weights {
		parts[i] = int64(w / all * float64(sum))
	}
	return parts
}
