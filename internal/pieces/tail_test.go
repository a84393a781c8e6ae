package pieces

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTimeLeftIsThatOfTheSlowest(t *testing.T) {
	q := NewQueue([]Range{{0, 40 << 20}}, 20<<20)
	none, _ := q.Slowest(time.Hour)
	assert.Nil(t, none, "nobody fetches")
	fast, slow := q.Next(0), q.Next(0)
	none, _ = q.Slowest(time.Hour)
	assert.Nil(t, none, "nobody has asked yet")
	fast.Asked(0)
	slow.Asked(0)
	fast.Flowing(0)
	slow.Flowing(0)
	fast.Claim(10 << 20)
	slow.Claim(1 << 20)
	assert.Equal(t, 2, q.Active())
	p, left := q.Slowest(time.Second)
	assert.Same(t, slow, p)
	assert.Greater(t, left, 10*time.Second)
	assert.Less(t, left, 20*time.Second)
	slow.Finish()
	p, left = q.Slowest(time.Second)
	assert.Same(t, fast, p)
	assert.Less(t, left, 2*time.Second)
}

func TestTimeLeftDoesNotOverflow(t *testing.T) {
	q := NewQueue([]Range{{0, 1 << 62}}, 0)
	q.Next(0).Asked(0)
	_, left := q.Slowest(1 << 62)
	assert.Positive(t, left)
}

func TestExtend(t *testing.T) {
	q := NewQueue([]Range{{0, 100}, {200, 300}}, 10)
	p := q.Next(0)
	q.Extend(p)
	assert.EqualValues(t, 100, p.End(), "all that follows directly")
	q.Extend(p)
	assert.EqualValues(t, 100, p.End(), "and not what lies behind a gap")
	p.Finish()
	q.Extend(p)
	assert.EqualValues(t, 0, p.End(), "a piece that has ended stays so")
	next := q.Next(0)
	assert.EqualValues(t, 10, next.End(), "what was left went back")
}

func TestTakeOverTellsTheHolder(t *testing.T) {
	q := NewQueue([]Range{{0, 100}}, 0)
	p := q.Next(0)
	told := 0
	p.OnLost(func() { told++ })
	p.Claim(30)
	rest := q.TakeOver(p, 0)
	assert.Equal(t, 1, told)
	assert.EqualValues(t, 30, rest.Pos())
	assert.Zero(t, p.Claim(10))
	assert.Nil(t, q.TakeOver(p, 0), "there is nothing left to take")
	assert.Equal(t, 1, told)
}

func TestJudge(t *testing.T) {
	p := NewQueue([]Range{{0, 1000}}, 0).Next(0)
	p.Asked(time.Second)
	flows, age, speed := p.Judge(3 * time.Second)
	assert.False(t, flows)
	assert.Equal(t, 2*time.Second, age)
	assert.Zero(t, speed)
	p.Flowing(5 * time.Second)
	p.Claim(100)
	flows, age, speed = p.Judge(7 * time.Second)
	assert.True(t, flows)
	assert.Equal(t, 2*time.Second, age)
	assert.InDelta(t, 50, speed, 0.1)
}
