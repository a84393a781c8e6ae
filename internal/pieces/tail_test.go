package pieces

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTimeLeftIsThatOfTheSlowest(t *testing.T) {
	q := newQueue([]Range{{0, 40 << 20}}, 20<<20)
	none, _ := q.Slowest(time.Hour)
	assert.Nil(t, none, "nobody fetches")
	fast, slow := q.Next(0), q.Next(0)
	none, _ = q.Slowest(time.Hour)
	assert.Nil(t, none, "nobody has asked yet")
	fast.Requested(0)
	slow.Requested(0)
	fast.Flowing(0)
	slow.Flowing(0)
	fast.Take(10 << 20)
	slow.Take(1 << 20)
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
	q := newQueue([]Range{{0, 1 << 62}}, 0)
	q.Next(0).Requested(0)
	_, left := q.Slowest(1 << 62)
	assert.Positive(t, left)
}

func TestExtend(t *testing.T) {
	q := newQueue([]Range{{0, 100}, {200, 300}}, 10)
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

func TestTakeOverTellsTheWorker(t *testing.T) {
	q := newQueue([]Range{{0, 100}}, 0)
	p := q.Next(0)
	told := 0
	p.OnLost(func() { told++ })
	p.Take(30)
	rest := q.TakeOver(p, 0)
	assert.Equal(t, 1, told)
	assert.EqualValues(t, 30, rest.Pos())
	assert.Zero(t, p.Take(10))
	assert.Nil(t, q.TakeOver(p, 0), "there is nothing left to take")
	assert.Equal(t, 1, told)
}

func TestJudge(t *testing.T) {
	p := newQueue([]Range{{0, 1000}}, 0).Next(0)
	p.Requested(time.Second)
	flows, age, speed := p.Judge(3 * time.Second)
	assert.False(t, flows)
	assert.Equal(t, 2*time.Second, age)
	assert.Zero(t, speed)
	p.Flowing(5 * time.Second)
	p.Take(100)
	flows, age, speed = p.Judge(7 * time.Second)
	assert.True(t, flows)
	assert.Equal(t, 2*time.Second, age)
	assert.InDelta(t, 50, speed, 0.1)
}

func TestDeferredRangesAreNotTaken(t *testing.T) {
	q := newQueue([]Range{{0, 10}}, 10)
	q.Defer([]Range{{10, 90}, {95, 100}})
	p := q.Next(0)
	p.Take(10)
	p.Finish()
	assert.Nil(t, q.Next(0))
	assert.True(t, q.Done(), "what is deferred is somebody else's")
	q.Defer(nil)
	assert.Nil(t, q.Next(0), "forgotten")
}

// A registry that does not serve ranges sends what is deferred too.
func TestExtendOverDeferredRanges(t *testing.T) {
	q := newQueue([]Range{{0, 10}}, 10)
	q.Defer([]Range{{10, 90}, {95, 100}})
	p := q.Next(0)
	q.Extend(p)
	assert.EqualValues(t, 90, p.End())
	p.Take(90)
	p.Finish()
	assert.False(t, q.Done())
	assert.EqualValues(t, 95, q.Next(0).Pos())
}

// A piece whose body is the whole blob goes on behind what others have.
func TestFollow(t *testing.T) {
	q := newQueue([]Range{{0, 10}, {20, 30}, {50, 60}}, 100)
	first := q.Next(0)
	p := q.Next(0)
	_, ok := q.Follow(p)
	assert.False(t, ok, "it has not come to its end")
	p.Take(10)
	first.Finish()
	gap, ok := q.Follow(p)
	assert.True(t, ok)
	assert.EqualValues(t, 20, gap)
	assert.EqualValues(t, 50, p.Pos())
	assert.EqualValues(t, 60, p.End())
	_, _, speed := p.Judge(time.Second)
	assert.InDelta(t, 10, speed, 0.1, "what was passed over does not count")
	p.Take(10)
	_, ok = q.Follow(p)
	assert.False(t, ok, "what lies before has to be asked for anew")
	p.Finish()
	_, ok = q.Follow(p)
	assert.False(t, ok)
	assert.EqualValues(t, 0, q.Next(0).Pos())
}
