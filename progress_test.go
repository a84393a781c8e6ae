package transfer

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// One call at a time, from what is there to the end, and what came meanwhile in one.
func TestProgressTracker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls [][2]int64
		p := newProgressTracker(10, func(completed, total int64) {
			calls = append(calls, [2]int64{completed, total})
			time.Sleep(time.Second)
		}, nil)
		p.start(3)
		synctest.Wait()
		p.add(1)
		p.add(2)
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)
		p.add(4)
		p.add(0)
		assert.Nil(t, p.finish(t.Context()))
		assert.Equal(t, [][2]int64{{3, 10}, {6, 10}, {10, 10}}, calls)
	})
}

func TestProgressTrackerWithoutCallback(t *testing.T) {
	p := newProgressTracker(10, nil, nil)
	p.start(10)
	assert.Nil(t, p.finish(t.Context()))
	var none *progressTracker
	none.add(1)
}

func TestProgressTrackerPanic(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { panic("ours") }, func() { stopped.Store(true) })
	p.start(0)
	p.add(5)
	assert.Equal(t, "ours", p.finish(t.Context()))
	assert.True(t, stopped.Load())
}

func TestProgressTrackerNilPanic(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { panic(nil) }, func() { stopped.Store(true) })
	p.start(0)
	assert.NotNil(t, p.finish(t.Context()))
	assert.True(t, stopped.Load())
}

func TestProgressTrackerExit(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { runtime.Goexit() }, func() { stopped.Store(true) })
	p.start(0)
	assert.Nil(t, p.finish(t.Context()))
	assert.True(t, stopped.Load())
}

func BenchmarkProgress(b *testing.B) {
	p := newProgressTracker(1<<62, func(int64, int64) {}, func() {})
	p.start(0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.add(128 << 10)
		}
	})
	require.Nil(b, p.finish(b.Context()))
}
