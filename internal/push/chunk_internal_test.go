package push

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestChunkSizeGrowsUntilRefused(t *testing.T) {
	c := newChunkSize(8, 1, 64)
	c.Taken(4)
	assert.EqualValues(t, 8, c.Size(), "the last chunk of a blob says nothing")
	for range 10 {
		c.Taken(c.Size())
	}
	assert.EqualValues(t, 64, c.Size())
	assert.True(t, c.Refused(64))
	assert.EqualValues(t, 32, c.Size())
	c.Taken(32)
	assert.EqualValues(t, 32, c.Size(), "what was refused is not tried again")
	assert.True(t, c.Refused(64), "another that was on its way")
	assert.EqualValues(t, 32, c.Size(), "counts once")
	assert.True(t, c.Refused(2))
	assert.False(t, c.Refused(1))
	assert.EqualValues(t, 1, c.Size())
}
