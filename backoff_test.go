package transfer

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTemporaryStatus(t *testing.T) {
	temporary := map[int]bool{
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true,
		520: true, 521: true, 522: true, 523: true, 524: true, 530: true,
	}
	for code := 200; code < 600; code++ {
		assert.Equal(t, temporary[code], (&StatusError{StatusCode: code}).Temporary(), "%d", code)
	}
}
