package pieces

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const kib = int64(1) << 10

// drain takes all pieces that are left and finishes them whole.
func drain(q *queue) (got []Range) {
	for p := q.Next(0); p != nil; p = q.Next(0) {
		r := Range{Start: p.Pos(), End: p.End()}
		got = append(got, r)
		p.Take(int(r.Len()))
		p.Finish()
	}
	return got
}

func TestNextHandsOutInOrder(t *testing.T) {
	type ranges = []Range
	for name, test := range map[string]struct {
		missing ranges
		size    int64
		want    ranges
	}{
		"nothing is missing":          {nil, 10, nil},
		"empty ranges are none":       {ranges{{5, 5}, {7, 6}}, 10, nil},
		"one piece per range":         {ranges{{0, 25}, {30, 40}}, 0, ranges{{0, 25}, {30, 40}}},
		"split, with a shorter last":  {ranges{{0, 25}}, 10, ranges{{0, 10}, {10, 20}, {20, 25}}},
		"pieces do not span a gap":    {ranges{{0, 5}, {7, 20}}, 10, ranges{{0, 5}, {7, 17}, {17, 20}}},
		"in order, however they come": {ranges{{20, 30}, {0, 5}}, 0, ranges{{0, 5}, {20, 30}}},
		"joined where they touch":     {ranges{{10, 20}, {0, 10}, {15, 30}}, 0, ranges{{0, 30}}},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(test.missing, test.size)
			assert.Equal(t, test.want, drain(q))
			assert.True(t, q.Done())
		})
	}
}

func TestTakeIsForGood(t *testing.T) {
	q := newQueue([]Range{{0, 100}}, 0)
	p := q.Next(0)
	assert.Equal(t, 0, p.Take(-5))
	assert.Equal(t, 60, p.Take(60))
	assert.Equal(t, int64(60), p.Pos())

	thief := q.TakeOver(p, 0)
	require.NotNil(t, thief)
	assert.Equal(t, int64(60), thief.Pos())
	assert.Equal(t, int64(100), thief.End())
	assert.Equal(t, int64(60), p.End())
	assert.Equal(t, 0, p.Take(1), "the rest is another's")
	assert.Nil(t, q.TakeOver(p, 0), "nothing is left to take")

	p.Finish()
	assert.Nil(t, q.Next(0), "what was taken over does not come back")
	assert.Equal(t, 40, thief.Take(1000))
	assert.False(t, q.Done())
	thief.Finish()
	assert.True(t, q.Done())
}

func TestFinishGivesBackWhatIsLeft(t *testing.T) {
	q := newQueue([]Range{{0, 100}}, 50)
	p := q.Next(0)
	p.Take(20)
	p.Finish()
	p.Finish()
	assert.Equal(t, 0, p.Take(1), "a finished piece has nothing to take")
	assert.Nil(t, q.TakeOver(p, 0), "and nothing to take over")
	assert.Equal(t, []Range{{20, 70}, {70, 100}}, drain(q))
	q.Add(Range{Start: 3, End: 4})
	assert.False(t, q.Done())
	assert.Equal(t, []Range{{3, 4}}, drain(q))
}

func TestStealTakesTheTailOfTheSlowest(t *testing.T) {
	q := newQueue([]Range{{0, 30 * mib}}, 10*mib)
	fast, slow, begun := q.Next(0), q.Next(0), q.Next(0)
	fast.Flowing(0)
	slow.Flowing(0)
	begun.Flowing(9900 * time.Millisecond)
	fast.Take(int(2 * mib))
	slow.Take(int(8 * mib))
	now := 10 * time.Second

	// fast has 8 MiB left at 0.2 MiB/s, slow 2 MiB at 0.8 MiB/s, begun has only begun.
	tail := q.Steal(kib, now)
	require.NotNil(t, tail)
	assert.Equal(t, []int64{6 * mib, 10 * mib}, []int64{tail.Pos(), tail.End()})
	assert.EqualValues(t, 6*mib, fast.End())
	assert.EqualValues(t, 10*mib, begun.End()-begun.Pos())
}

func TestStealRespectsTheMinimum(t *testing.T) {
	for name, test := range map[string]struct {
		left, minimum int64
		want          *Range
	}{
		"enough for two":     {20, 10, &Range{Start: 10, End: 20}},
		"one byte too few":   {19, 10, nil},
		"odd":                {21, 10, &Range{Start: 11, End: 21}},
		"one byte, no limit": {1, 0, nil},
		"two bytes":          {2, 0, &Range{Start: 1, End: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue([]Range{{0, test.left}}, 0)
			p := q.Next(0)
			p.Flowing(0)
			tail := q.Steal(test.minimum, time.Second)
			if test.want == nil {
				assert.Nil(t, tail)
				assert.Equal(t, test.left, p.End())
				return
			}
			require.NotNil(t, tail)
			assert.Equal(t, *test.want, Range{Start: tail.Pos(), End: tail.End()})
			assert.Equal(t, test.want.Start, p.End())
		})
	}
}

func TestStealLeavesAloneWhatDoesNotFlow(t *testing.T) {
	q := newQueue([]Range{{0, 100}}, 0)
	p := q.Next(0)
	assert.Nil(t, q.Steal(1, time.Second))
	p.Requested(0)
	assert.Nil(t, q.Steal(1, time.Second))
	p.Flowing(0)
	p.Rest(time.Second)
	assert.Nil(t, q.Steal(1, time.Hour))
	slowest, _ := q.Slowest(time.Hour)
	assert.Nil(t, slowest)
}

func TestEveryByteIsTakenOnce(t *testing.T) {
	const size = 200_000
	q := newQueue([]Range{{0, size}}, 5000)
	taken := make([]atomic.Int32, size)
	var clock atomic.Int64
	var workers sync.WaitGroup
	for seed := range uint64(8) {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(seed, 1))
			for !q.Done() {
				now := time.Duration(clock.Add(1)) * time.Millisecond
				p := q.Next(now)
				if p == nil {
					p = q.Steal(1+random.Int64N(50), now)
				}
				if p == nil {
					continue
				}
				p.Flowing(now)
				work(q, p, random, taken)
			}
		})
	}
	workers.Wait()
	for i := range taken {
		require.Equal(t, int32(1), taken[i].Load(), "byte %d", i)
	}
}

// work takes a piece bit by bit; now and then it is given up or handed over.
func work(q *queue, p *Piece, random *rand.Rand, taken []atomic.Int32) {
	for p != nil {
		at := p.Pos()
		n := p.Take(1 + random.IntN(300))
		for i := range n {
			taken[at+int64(i)].Add(1)
		}
		next := p
		switch {
		case random.IntN(20) == 0:
			next = q.TakeOver(p, 0)
			p.Finish()
		case n == 0 || random.IntN(20) == 0:
			next = nil
			p.Finish()
		}
		p = next
	}
}

func BenchmarkTake(b *testing.B) {
	q := newQueue([]Range{{0, 1 << 62}}, 0)
	p := q.Next(0)
	b.ReportAllocs()
	for b.Loop() {
		p.Take(256 << 10)
	}
}

// I24: offsets are 64 bits wide on 32-bit machines too.
func TestI24PiecesBeyondTwoGiB(t *testing.T) {
	const size, pieceSize = 5<<30 + 1, 1 << 30
	q := newQueue([]Range{{Start: 0, End: size}}, pieceSize)
	at := int64(0)
	for p := q.Next(0); p != nil; p = q.Next(0) {
		require.Equal(t, at, p.Pos())
		at = min(at+pieceSize, size)
		require.Equal(t, at, p.End())
		for p.Pos() < p.End() {
			p.Take(1 << 30)
		}
		p.Finish()
	}
	require.Equal(t, int64(size), at)
	require.True(t, q.Done())
}
