package blobstore

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs, fails := 0, false
		proceed := make(chan struct{})
		run := func(ctx context.Context) error {
			runs++
			select {
			case <-proceed:
			case <-ctx.Done():
			}
			if fails {
				return errors.New("failed")
			}
			return ctx.Err()
		}
		woken := func(b *background, times int) int {
			for range times {
				b.wake()
			}
			synctest.Wait()
			return runs
		}
		var b background
		assert.Zero(t, woken(&b, 1), "before it is allowed")
		b.allow(run)
		assert.Equal(t, 1, woken(&b, 3), "one goroutine")
		proceed <- struct{}{}
		assert.Equal(t, 2, woken(&b, 0), "woken while it ran")
		proceed <- struct{}{}
		assert.Equal(t, 2, woken(&b, 0), "not woken since")
		assert.Equal(t, 3, woken(&b, 2))
		fails = true
		proceed <- struct{}{}
		assert.Equal(t, 3, woken(&b, 0), "not again after a failure")
		fails = false
		assert.Equal(t, 4, woken(&b, 2))
		b.stop()
		assert.Nil(t, b.allowed())
		assert.Equal(t, 4, woken(&b, 1), "after it was stopped")
		b.allow(run)
		assert.Equal(t, 5, woken(&b, 1))
		b.stop()
		b.stop()
	})
}

// What comes in another order is hashed before the commit, whichever writer closes the last gap, and so is
// what an earlier run has left.
func TestHashedInTheBackground(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	d := open(t, dir)
	hashed := func(p *Partial) int64 {
		p.hasher.background.goroutine.Wait()
		return p.hasher.ordered.hash.Len()
	}
	p := claim(t, d, content)
	write(t, p, content, 20e6, large)
	write(t, p, content, 10e6, 20e6)
	assert.Zero(t, hashed(p))
	write(t, p, content, 0, 10e6)
	assert.EqualValues(t, large, hashed(p))
	require.NoError(t, p.Close(true))

	p = claim(t, d, content)
	assert.EqualValues(t, large, hashed(p))
	require.NoError(t, p.Close(true))

	flip(t, filepath.Join(dir, p.data.name), 5e6)
	p = claim(t, d, content)
	assert.Less(t, hashed(p), int64(5e6+1))
	assert.NotEmpty(t, p.Missing(), "damage is found before the commit")
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}
