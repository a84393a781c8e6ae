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
	c.Refused(64)
	assert.EqualValues(t, 32, c.Size())
	c.Taken(32)
	assert.EqualValues(t, 32, c.Size(), "what was refused is not tried again")
	c.Refused(64)
	assert.EqualValues(t, 32, c.Size(), "another that was on its way counts once")
	c.Refused(2)
	c.Refused(1)
	assert.EqualValues(t, 1, c.Size())
}
