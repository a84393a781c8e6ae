package unpack_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var quiet = unpack.Turn{Waiting: func() {}}

func TestL3OneHolderAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	synctest.Test(t, func(t *testing.T) {
		unlock, err := unpack.Lock(t.Context(), dir, "", quiet)
		require.NoError(t, err)
		waited, other := 0, make(chan func())
		go func() {
			second, err := unpack.Lock(t.Context(), dir, "", unpack.Turn{Waiting: func() { waited++ }})
			assert.NoError(t, err)
			other <- second
		}()
		time.Sleep(time.Minute) // a holder that lives is waited for
		select {
		case <-other:
			t.Fatal("there are two holders")
		default:
		}
		apart, err := unpack.Lock(t.Context(), dir, "0123", quiet)
		require.NoError(t, err)
		apart()
		unlock()
		(<-other)()
		assert.Equal(t, 1, waited)
	})
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left, "nothing of a lock stays")
}

func TestL3AHolderThatDoesNotLiveIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, names.StateDir), 0o755))
	f, err := os.Create(filepath.Join(dir, names.StateDir, "lock"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, filelock.Lock(f))
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		unlock, err := unpack.Lock(t.Context(), dir, "", quiet)
		require.NoError(t, err)
		unlock()
		assert.Less(t, time.Since(start), time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = unpack.Lock(ctx, dir, "", quiet)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// S24: a holder that lives and does not get on is waited for as long as the waiter is patient; one that gets
// on is waited for. Who has no patience of his own waits for all that live.
func TestS24AHolderThatDoesNotGetOn(t *testing.T) {
	for name, c := range map[string]struct {
		patience time.Duration
		getsOn   bool
		want     time.Duration
	}{
		"stuck": {10 * time.Second, false, 10 * time.Second}, "stuck, no patience": {0, false, time.Minute},
		"gets on": {10 * time.Second, true, time.Minute}, "in a hurry": {time.Millisecond, true, time.Minute},
		"stuck, in a hurry": {time.Millisecond, false, 3 * time.Second},
	} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			stuck := unpack.Turn{GetsOn: func() bool { return c.getsOn }}
			unlock, err := unpack.Lock(t.Context(), dir, "", stuck)
			require.NoError(t, err)
			time.AfterFunc(time.Minute, unlock)
			start := time.Now()
			turn := unpack.Turn{Waiting: func() {}, Patience: c.patience}
			other, err := unpack.Lock(t.Context(), dir, "", turn)
			require.NoError(t, err)
			assert.InDelta(t, c.want.Seconds(), time.Since(start).Seconds(), 1.5, name)
			other()
			time.Sleep(time.Minute)
		})
	}
}

// Who was stopped together with the holder, as by a frozen container, has not seen that it is silent.
func TestL3WhoWasStoppedGoesOnWaiting(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, names.StateDir), 0o755))
	path := filepath.Join(dir, names.StateDir, "lock")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, filelock.Lock(f))
	synctest.Test(t, func(t *testing.T) {
		var released atomic.Bool
		unlock, err := unpack.Lock(t.Context(), dir, "", unpack.Turn{Waiting: func() {
			time.Sleep(time.Minute) // both are stopped
			go func() {
				for range 30 {
					time.Sleep(time.Second)
					assert.NoError(t, os.Chtimes(path, time.Time{}, time.Now()))
				}
				released.Store(true)
				assert.NoError(t, f.Close())
			}()
		}})
		require.NoError(t, err)
		unlock()
		assert.True(t, released.Load(), "the holder lives")
	})
}

func TestL3ALockThatCannotBeHadIsGoneWithout(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, names.StateDir), []byte("a file"), 0o600))
	unlock, err := unpack.Lock(t.Context(), dir, "", quiet)
	require.NoError(t, err)
	unlock()
	data, err := os.ReadFile(filepath.Join(dir, names.StateDir))
	require.NoError(t, err)
	assert.Equal(t, "a file", string(data))
}

func TestH8ALockOfAnotherUserIsNotWaitedFor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file of somebody else")
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, names.StateDir), 0o755))
	path := filepath.Join(dir, names.StateDir, "lock")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Chown(12345, 12345))
	require.NoError(t, filelock.Lock(f))
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		turn := unpack.Turn{Waiting: func() { t.Error("it is waited for") }}
		unlock, err := unpack.Lock(t.Context(), dir, "", turn)
		require.NoError(t, err)
		unlock()
		assert.Zero(t, time.Since(start))
	})
	assert.FileExists(t, path, "it is the other's")
}

// Who has all models of a directory has waited for those that come, and those that follow wait.
func TestL3AllModelsOfADirectoryAreKeptTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	synctest.Test(t, func(t *testing.T) {
		one, err := unpack.LockOne(t.Context(), dir, "0123", quiet)
		require.NoError(t, err)
		other, err := unpack.LockOne(t.Context(), dir, "4567", quiet) // at the same time
		require.NoError(t, err)
		other()
		waited, all, later := 0, make(chan func()), make(chan func())
		go func() {
			unlock, err := unpack.LockAll(t.Context(), dir, unpack.Turn{Waiting: func() { waited++ }})
			assert.NoError(t, err)
			all <- unlock
		}()
		time.Sleep(time.Minute)
		assert.Equal(t, 1, waited)
		go func() {
			unlock, err := unpack.LockOne(t.Context(), dir, "89ab", quiet)
			assert.NoError(t, err)
			later <- unlock
		}()
		one()
		unlock := <-all
		time.Sleep(time.Minute)
		select {
		case <-later:
			t.Fatal("a model comes while somebody has all of them")
		default:
		}
		unlock()
		(<-later)()
	})
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestALockIsNotTakenWhereTheCallHasEnded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := unpack.Lock(ctx, dir, "", quiet)
	require.ErrorIs(t, err, context.Canceled)
	assert.NoDirExists(t, dir)
}

// Who waits for a model is one of those that come: the lock on it is not free in between.
func TestL3WhoWaitsForAModelIsWaitedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	synctest.Test(t, func(t *testing.T) {
		first, err := unpack.LockOne(t.Context(), dir, "0123", quiet)
		require.NoError(t, err)
		second, all := make(chan func()), make(chan func())
		go func() {
			unlock, err := unpack.LockOne(t.Context(), dir, "0123", quiet)
			assert.NoError(t, err)
			second <- unlock
		}()
		time.Sleep(30 * time.Millisecond) // this one looks sooner after the first has ended
		go func() {
			unlock, err := unpack.LockAll(t.Context(), dir, quiet)
			assert.NoError(t, err)
			all <- unlock
		}()
		time.Sleep(time.Minute - 20*time.Millisecond)
		first()
		unlock := <-second
		time.Sleep(time.Minute)
		select {
		case <-all:
			t.Fatal("there are two holders")
		default:
		}
		unlock()
		(<-all)()
	})
}

// Who waits for a model holds up nobody who wants another.
func TestL3AModelDoesNotWaitForThoseOfAnother(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	synctest.Test(t, func(t *testing.T) {
		first, err := unpack.LockOne(t.Context(), dir, "0123", quiet)
		require.NoError(t, err)
		second := make(chan func())
		go func() {
			unlock, err := unpack.LockOne(t.Context(), dir, "0123", quiet)
			assert.NoError(t, err)
			second <- unlock
		}()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		other, err := unpack.LockOne(ctx, dir, "4567", quiet)
		if assert.NoError(t, err) {
			other()
		}
		first()
		(<-second)()
	})
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}
