package push

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestU26PartSize(t *testing.T) {
	for blob, want := range map[int64]int64{
		1: minPart, 700 << 20: minPart, 1600 << 20: minPart, 3200 << 20: 200 << 20,
		16000 << 20: maxPart, 1 << 40: maxPart,
	} {
		assert.Equal(t, want, partSize(blob), blob)
	}
}
