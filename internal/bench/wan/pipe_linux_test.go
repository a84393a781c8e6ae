package wan

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestAPacketIsDueAfterQueueLineAndDelay checks the three parts of the time that a packet takes.
func TestAPacketIsDueAfterQueueLineAndDelay(t *testing.T) {
	p := newPipe(Link{RTT: 20 * time.Millisecond, Rate: 8e6, Queue: 3 * time.Millisecond})
	now := time.Now()
	for i := range 4 { // a packet of 1,000 bytes takes a millisecond
		due, arrives := p.schedule(now, 1000, 0.5)
		assert.True(t, arrives)
		assert.Equal(t, time.Duration(i+1)*time.Millisecond+10*time.Millisecond, due.Sub(now))
	}
	_, arrives := p.schedule(now, 1000, 0.5)
	assert.False(t, arrives, "the queue is full")
	_, arrives = p.schedule(now.Add(2*time.Millisecond), 1000, 0.5)
	assert.True(t, arrives, "it has become shorter")
}

func TestLossIsAShareOfThePackets(t *testing.T) {
	p := newPipe(Link{Rate: 1e9, Queue: time.Second, Loss: 0.25})
	lost := 0
	for i := range 100 {
		if _, arrives := p.schedule(time.Now(), 100, float64(i)/100); !arrives {
			lost++
		}
	}
	assert.Equal(t, 25, lost)
}
