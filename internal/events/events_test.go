package events_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/events"
)

// log is a listener that writes down what it is told.
type log struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

var _ events.Listener = (*log)(nil)

func (l *log) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *log) Present(i int, where events.Place) { l.add("%d present %d", i, where) }
func (l *log) Waiting(i int)                     { l.add("%d waiting", i) }
func (l *log) Started(i int, host string, offset, size int64) {
	l.add("%d started %s %d+%d", i, host, offset, size)
}
func (l *log) Moving(i int, completed int64)      { l.add("%d moving %d", i, completed) }
func (l *log) Reused(i int, path string, n int64) { l.add("%d reused %d of %s", i, n, path) }
func (l *log) Retried(i int, host string, attempt int, wait time.Duration, err error) {
	l.add("%d retried %s %d %v %v", i, host, attempt, wait, err)
}
func (l *log) Done(i int, d events.Done) {
	l.add("%d done %s %d %d %v", i, d.Host, d.Moved, d.Reused, d.Took)
}
func (l *log) Failed(i int, err error) { l.add("%d failed %v", i, err) }

var (
	errOurs  = errors.New("ours")
	errCalls = errors.New("the call's")
)

// every is how many bytes of a blob move between two calls of Moving.
const every = 1 << 20

func TestBlob(t *testing.T) {
	const size = 10 * every
	for name, c := range map[string]struct {
		upload bool
		do     func(b *events.Blob)
		want   []string
	}{
		"found": {do: func(b *events.Blob) {
			b.Find(events.OnDisk)
			b.Succeed()
		}, want: []string{"7 present 1"}},
		"found after bytes were sent": {true, func(b *events.Blob) {
			b.Start("h", 0, size)
			b.Find(events.AtRegistry)
			b.Succeed()
		}, []string{"7 started h 0+10485760", "7 done  0 10485760 0s"}},
		"resumed": {do: func(b *events.Blob) {
			b.Begin()
			b.Complete(size / 2)
			time.Sleep(time.Second)
			b.Start("h", size/2, size/2)
			b.From("store")
			b.Move(size / 2)
			b.Complete(size / 2)
			b.Succeed()
		}, want: []string{"7 moving 5242880", "7 started h 5242880+5242880", "7 moving 10485760",
			"7 done store 5242880 5242880 1s"}},
		"thrown away": {do: func(b *events.Blob) {
			b.Move(size)
			b.Complete(size)
			b.Complete(-size)
			b.Move(size)
			b.Complete(size)
			b.Succeed()
		}, want: []string{"7 moving 10485760", "7 moving 0", "7 moving 10485760", "7 done  20971520 0 0s"}},
		"moves a little": {do: func(b *events.Blob) { b.Complete(every - 1); b.Complete(1) },
			want: []string{"7 moving 1048576"}},
		"sent from the middle, and again": {true, func(b *events.Blob) {
			b.Start("h", 400, size-400)
			b.Move(500)
			b.Start("h", 600, size-600)
			b.Move(size - 600)
			b.Succeed()
		}, []string{"7 started h 400+10485360", "7 started h 600+10485160", "7 done h 10485660 400 0s"}},
		"sent before": {true, func(b *events.Blob) {
			b.Begin()
			b.Succeed()
		}, []string{"7 done  0 10485760 0s"}},
		"waits twice": {do: func(b *events.Blob) { b.Wait(); b.Wait() }, want: []string{"7 waiting"}},
		"fails": {do: func(b *events.Blob) {
			b.Retry("h", 1, time.Second, errCalls)
			b.Fail(errOurs)
			b.Fail(errCalls)
			b.End(errCalls)
		}, want: []string{"7 retried h 1 1s the call's", "7 failed ours"}},
		"is cut off": {do: func(b *events.Blob) {
			b.Begin()
			b.End(errCalls)
		}, want: []string{"7 failed the call's"}},
		"was not begun": {do: func(b *events.Blob) { b.End(errCalls) }},
		"was done": {do: func(b *events.Blob) {
			b.Succeed()
			b.End(errCalls)
		}, want: []string{"7 done  0 10485760 0s"}},
		"is begun again and cut off": {do: func(b *events.Blob) {
			b.Find(events.AtRegistry)
			b.Succeed()
			b.Begin()
			b.End(errCalls)
		}, want: []string{"7 present 2", "7 failed the call's"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := new(log)
				c.do(events.NewBlob(l, 7, size, c.upload))
				assert.Equal(t, c.want, l.lines)
			})
		})
	}
}

// Without a Trace nothing is noted, and nothing allocated.
func TestNilBlobCostsNothing(t *testing.T) {
	var b *events.Blob
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		b.Begin()
		b.Wait()
		b.Start("h", 1, 2)
		b.From("h")
		b.Move(1)
		b.Complete(every)
		b.Retry("h", 1, 0, errOurs)
		b.Find(events.OnDisk)
		b.Fail(errOurs)
		b.Succeed()
		b.End(errOurs)
	}))
}

// A blob that moves in small steps costs no allocation for each.
func BenchmarkMove(b *testing.B) {
	blob := events.NewBlob(new(log), 0, 1<<62, false)
	b.ReportAllocs()
	for b.Loop() {
		blob.Move(128)
		blob.Complete(1)
	}
}

func TestGuardCallsNothingAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := events.Guard{Stop: func() {}}
		var running, calls atomic.Int32
		for range 20 {
			go func() {
				time.Sleep(rand.N(time.Second))
				g.Call(func() {
					calls.Add(1)
					running.Add(1)
					time.Sleep(time.Second)
					running.Add(-1)
				})
			}()
		}
		time.Sleep(time.Second / 2)
		assert.Nil(t, g.End())
		assert.Zero(t, running.Load(), "it waits for those that run")
		before := calls.Load()
		time.Sleep(time.Minute)
		assert.Equal(t, before, calls.Load())
	})
}

func TestGuardKeepsTheFirstPanic(t *testing.T) {
	stopped := 0
	g := events.Guard{Stop: func() { stopped++ }}
	g.Call(func() {})
	require.False(t, g.Broken())
	g.Call(func() { panic("first") })
	g.Call(func() { panic("second") })
	assert.True(t, g.Broken())
	assert.Equal(t, 1, stopped)
	assert.Equal(t, "first", g.End())
}

// A function that ends its goroutine has no value, and stops the call all the same.
func TestGuardExit(t *testing.T) {
	stopped := make(chan struct{})
	g := events.Guard{Stop: func() { close(stopped) }}
	go g.Call(runtime.Goexit)
	<-stopped
	assert.True(t, g.Broken())
	assert.Nil(t, g.End())
}
