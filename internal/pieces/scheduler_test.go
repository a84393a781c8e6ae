package pieces

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// link is what a scheduler knows of the world.
type link struct {
	large  int
	free   bool
	capped bool
	slow   func(p int64) bool // of what is left
}

const mib = 1 << 20

// newScheduler returns a scheduler of blobs with these sizes in MiB.
func newScheduler(l *link, sizes ...int64) *Scheduler {
	bytes := make([]int64, len(sizes))
	for i, size := range sizes {
		bytes[i] = size * mib
	}
	return NewScheduler(bytes, Config{
		PieceSize: 8 * mib, WholeSize: 32 * mib, MinSplit: 2 * mib, SplitAfter: 2 * time.Second,
		MaxTakeOvers: 3, Small: mib,
		Large:    func() int { return l.large },
		SlotFree: func() bool { return l.free }, Capped: func() bool { return l.capped },
		Slow: func(_ bool, _ time.Duration, _ float64, left int64) bool {
			return l.slow != nil && l.slow(left)
		},
	})
}

// next returns the next job, which must be there at once.
func next(t *testing.T, s *Scheduler) Job {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stop := context.AfterFunc(ctx, s.Wake)
	defer stop()
	timer := time.AfterFunc(time.Minute, cancel)
	defer timer.Stop()
	job, ok, err := s.Next(ctx)
	require.NoError(t, err, "nothing to do")
	require.True(t, ok, "all is done")
	return job
}

// none requires that there is nothing to do now.
func none(t *testing.T, s *Scheduler) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	defer context.AfterFunc(ctx, s.Wake)()
	time.AfterFunc(time.Millisecond, func() { cancel(enough) })
	job, _, err := s.Next(ctx)
	require.ErrorIs(t, err, enough, "%+v", job)
}

// start starts a blob of which all is missing, and has ranges of it served.
func start(t *testing.T, s *Scheduler, i int) *Piece {
	t.Helper()
	job := next(t, s)
	require.Equal(t, Job{Blob: i}, job)
	p := s.Start(i, []Range{{0, s.plan.blobs[i].size}})
	s.RangesServed(i, false)
	return p
}

func TestLargestBlobsAreStartedFirst(t *testing.T) {
	s := newScheduler(&link{}, 30, 20, 10)
	for i := range 3 {
		p := start(t, s, i)
		assert.Equal(t, s.plan.blobs[i].size, p.End())
		p.Take(int(p.End()))
		p.Finish()
		require.True(t, s.Complete(i))
		s.Finish(i)
	}
	_, ok, err := s.Next(t.Context())
	require.NoError(t, err)
	assert.False(t, ok)
}

func TestOneWorkerHasABlobUntilRangesAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler(&link{}, 100)
		require.Equal(t, Job{Blob: 0}, next(t, s))
		first := s.Start(0, []Range{{0, 100 * mib}})
		assert.EqualValues(t, 8*mib, first.End())
		none(t, s)
		s.RangesServed(0, false)
		assert.EqualValues(t, 8*mib, next(t, s).Piece.Pos())
		s.RangesIgnored(0)
		s.RangesServed(0, false)
		none(t, s)
		assert.Equal(t, RangesIgnored, s.Ranges(0))
	})
}

func TestSmallBlobsMoveBesideLargeOnes(t *testing.T) {
	l := &link{large: 2}
	s := newScheduler(l, 100, 50, 1, 1)
	start(t, s, 0)
	for range 3 { // as many as move, and two ahead
		require.NotNil(t, next(t, s).Piece)
	}
	assert.Equal(t, 3, next(t, s).Blob, "the smallest")
	assert.Equal(t, 2, next(t, s).Blob)
	job := next(t, s)
	assert.Equal(t, 0, job.Blob)
	assert.NotNil(t, job.Piece, "no more small ones: the next piece")
}

func TestIdleWorkersHelpTheSlowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &link{free: true}
		s := newScheduler(l, 40, 8)
		first := start(t, s, 0)
		first.Take(8 * mib)
		first.Finish()
		var last *Piece
		for range 4 {
			last = next(t, s).Piece
			last.Requested(s.Now())
			last.Flowing(s.Now())
		}
		other := start(t, s, 1)
		other.Take(8 * mib)
		other.Finish()
		s.Complete(1)
		s.Finish(1)
		none(t, s)
		time.Sleep(10 * time.Second)
		last.Take(2 * mib)
		l.capped = true
		none(t, s)
		l.capped, l.free = false, false
		none(t, s)
		l.free = true
		job := next(t, s)
		assert.Equal(t, 0, job.Blob)
		assert.GreaterOrEqual(t, job.Piece.End()-job.Piece.Pos(), int64(3*mib), "half of what one has left")
	})
}

func TestN9PiecesAreTakenOverFromSlowConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &link{slow: func(int64) bool { return true }}
		s := newScheduler(l, 40)
		p := start(t, s, 0)
		for p.End() < 40*mib {
			p.Take(8 * mib)
			p.Finish()
			p = next(t, s).Piece
		}
		for range 3 {
			lost := false
			p.OnLost(func() { lost = true })
			p.Requested(s.Now())
			job := next(t, s)
			assert.True(t, lost)
			assert.Equal(t, p.Pos(), p.End(), "nothing is left to who had it")
			assert.EqualValues(t, 40*mib, job.Piece.End())
			p.Finish()
			p = job.Piece
		}
		p.Requested(s.Now())
		none(t, s) // no more than three times
	})
}

// Workers whose last pieces end at the same moment do not both finish the blob.
func TestOneWorkerFinishesABlob(t *testing.T) {
	s := newScheduler(&link{}, 40)
	one := start(t, s, 0)
	var all []*Piece
	for range 4 {
		all = append(all, next(t, s).Piece)
	}
	for _, p := range all {
		p.Take(8 * mib)
		p.Finish()
	}
	assert.False(t, s.Complete(0), "a piece is still being fetched")
	one.Take(8 * mib)
	one.Finish()
	assert.True(t, s.Complete(0))
	assert.False(t, s.Complete(0))
	s.Again(0, []Range{{5, 10}})
	p := next(t, s).Piece
	assert.EqualValues(t, 5, p.Pos())
	p.Take(5)
	p.Finish()
	assert.True(t, s.Complete(0))
}

// I8: there are never more workers than there can be jobs.
func TestJobsAreCounted(t *testing.T) {
	assert.Equal(t, 3, newScheduler(&link{}, 1, 1, 1).Jobs(64))
	assert.Equal(t, 6, newScheduler(&link{}, 10).Jobs(64))
	assert.Equal(t, 64, newScheduler(&link{}, 1<<20).Jobs(64))
	assert.Zero(t, newScheduler(&link{}).Jobs(64))
}

func TestNextEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler(&link{}, 1)
		next(t, s)
		none(t, s)
	})
}

// What is left of a blob that is one piece is not only for the worker that has begun it.
func TestWhatIsLeftOfALostPieceIsForTheNext(t *testing.T) {
	s := newScheduler(&link{}, 20)
	p := start(t, s, 0)
	p.Take(5 * mib)
	p.Lose() // whose holder does not want to know
	lost := 0
	p.OnLost(func() { lost++ })
	p.Lose()
	assert.Equal(t, 1, lost)
	p.Finish()
	require.False(t, s.Complete(0))
	rest := next(t, s)
	assert.Zero(t, rest.Blob)
	assert.EqualValues(t, 5*mib, rest.Piece.Pos())
	assert.EqualValues(t, 20*mib, rest.Piece.End())
}

// A worker that finds nothing to take of the slowest piece helps the next slowest.
func TestE18IdleWorkersHelpTheNextSlowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &link{free: true}
		s := newScheduler(l, 8, 7)
		slowest, other := start(t, s, 0), start(t, s, 1)
		for _, p := range []*Piece{slowest, other} {
			p.Requested(s.Now())
			p.Flowing(s.Now())
		}
		time.Sleep(100 * time.Second)
		slowest.Take(5 * mib) // less than two halves are left
		other.Take(mib)
		slowest.Rest(s.Now() - 100*time.Second)
		slowest.Flowing(s.Now() - 100*time.Second)
		assert.Equal(t, 1, next(t, s).Blob)
	})
}

// A finished blob leaves nothing behind.
func TestE18FinishedBlobKeepsNoQueue(t *testing.T) {
	s := newScheduler(&link{}, 8, 8)
	for i := range 2 {
		p := start(t, s, i)
		p.Take(8 * mib)
		p.Finish()
		require.True(t, s.Complete(i))
		s.Finish(i)
		assert.Nil(t, s.plan.blobs[i].queue)
		assert.False(t, s.Complete(i), "for a worker whose piece was taken over")
	}
}

// While what has come of a piece is stored, it is not slow.
func TestE9PieceIsNotSlowWhileItIsStored(t *testing.T) {
	q := newQueue([]Range{{0, 8 * mib}}, 0)
	p := q.Next(0)
	p.Flowing(0)
	p.Take(mib)
	p.Pause(time.Second)
	for _, now := range []time.Duration{time.Second, time.Minute} {
		flows, age, speed := p.Judge(now)
		assert.True(t, flows)
		assert.Equal(t, time.Second, age)
		assert.InDelta(t, mib, speed, 1)
	}
	p.Resume(time.Minute)
	_, age, speed := p.Judge(time.Minute + time.Second)
	assert.Equal(t, 2*time.Second, age)
	assert.InDelta(t, mib/2, speed, 1)
}

func TestBlobThatIsPinnedIsNotComplete(t *testing.T) {
	s := newScheduler(&link{large: 4, free: true}, 40)
	p := start(t, s, 0)
	pin := s.Continue(0, nil, nil)
	p.Take(8 * mib)
	p.Finish()
	assert.False(t, s.Complete(0))
	for range 4 {
		p := next(t, s).Piece
		p.Take(8 * mib)
		p.Finish()
	}
	none(t, s)
	assert.False(t, s.Complete(0), "all but what is pinned is there")
	pin.Finish()
	assert.True(t, s.Complete(0))
}

// Where the server is near, a request costs more than the network does.
func TestPiecesAreLargerWhereTheServerIsNear(t *testing.T) {
	s := NewScheduler([]int64{1000, 10}, Config{
		PieceSize: 100, NearSize: 200, WholeSize: 50, Large: func() int { return 1 },
		Capped: func() bool { return true },
	})
	job := next(t, s)
	p := s.Start(job.Blob, []Range{{0, 1000}})
	s.RangesServed(job.Blob, true)
	assert.EqualValues(t, 100, p.End(), "what is taken stays")
	assert.EqualValues(t, 300, next(t, s).Piece.End())
	s.RangesServed(job.Blob, true)
	assert.EqualValues(t, 500, next(t, s).Piece.End())
}

// Where each body has a blob for itself, a request for much of it holds up nobody, and what comes is hashed
// as it comes.
func TestBodiesMoveApartWhereThereAreBlobsEnough(t *testing.T) {
	large := 2
	s := NewScheduler([]int64{1000, 1000, 1000}, Config{
		PieceSize: 100, NearSize: 200, ApartSize: 500, WholeSize: 50, Large: func() int { return large },
		Capped: func() bool { return true },
	})
	take := func(blob int, from, to int64) *Piece {
		t.Helper()
		job := next(t, s)
		if job.Piece == nil {
			job.Piece = s.Start(job.Blob, []Range{{0, 1000}})
		}
		assert.Equal(t, blob, job.Blob)
		assert.Equal(t, Range{from, to}, Range{job.Piece.Pos(), job.Piece.End()})
		return job.Piece
	}
	take(0, 0, 100)
	take(1, 0, 100)
	s.RangesServed(0, false)
	take(0, 100, 200)
	s.RangesServed(1, true)
	take(1, 100, 600)
	take(0, 200, 700)
	take(1, 600, 1000)
	take(0, 700, 1000)
	take(2, 0, 500)
	s.RangesServed(2, true)
	large = 4
	take(2, 500, 700)
	large = 1
	s.Finish(0)
	s.Finish(1)
	take(2, 700, 900)
	take(2, 900, 1000)
}
