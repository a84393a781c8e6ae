package pull

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Several requests may meet a mirror that has asked to be left alone, or that fails for the third time.
func TestE8MirrorIsToldOnceAsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h health
		until, news := h.leftAlone(0)
		assert.False(t, news, "nothing has happened: %v", until)
		until, news = h.leftAlone(time.Minute)
		assert.True(t, news)
		assert.Equal(t, time.Now().Add(time.Minute), until)
		time.Sleep(time.Second)
		_, news = h.leftAlone(59 * time.Second)
		assert.False(t, news, "of another request")
		time.Sleep(time.Minute)
		_, news = h.leftAlone(time.Minute)
		assert.True(t, news, "it has asked anew")
	})
}

// A mirror that has failed is asked by one worker, and nobody waits for what comes of that.
func TestE8NobodyWaitsForAMirrorThatHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h health
		assert.True(t, h.ask(t.Context(), time.Minute))
		assert.False(t, h.failed())
		time.Sleep(failureEvery)
		assert.True(t, h.ask(t.Context(), time.Minute))
		begun := time.Now()
		assert.False(t, h.ask(t.Context(), time.Minute))
		assert.Zero(t, time.Since(begun))
	})
}
