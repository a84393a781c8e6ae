package blobstore

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// patient opens a directory whose claims wait for so long, and counts those that have waited and given up.
func patient(t *testing.T, dir string, patience time.Duration) (d *Dir, began, gaveUp *int) {
	d, began, gaveUp = open(t, dir), new(int), new(int)
	d.Waiting = Waiting{
		Patience: patience,
		Began:    func(digest.Digest) { *began++ },
		GaveUp:   func(digest.Digest) { *gaveUp++ },
	}
	return d, began, gaveUp
}

// S24: a holder that brings nothing is waited for as long as the waiter is patient. Both have the blob then.
func TestS24HolderThatBringsNothing(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 1 << 20, large} {
		content, dir := random(size), t.TempDir()
		dg := digestOf(content)
		synctest.Test(t, func(t *testing.T) {
			holder := claim(t, open(t, dir), content)
			write(t, holder, content, 0, int64(size/2))
			d, began, gaveUp := patient(t, dir, 10*time.Second)
			start := time.Now()
			p, err := d.Claim(t.Context(), dg, int64(size))
			require.NoError(t, err)
			assert.InDelta(t, 10, time.Since(start).Seconds(), 0.5)
			assert.Equal(t, []int{1, 1}, []int{*began, *gaveUp})
			fill(t, p, content)
			commit(t, p)
			assert.True(t, holds(t, filepath.Join(dir, p.name), content))
			fill(t, holder, content)
			commit(t, holder)
		})
		requireBlob(t, dir, content)
	}
}

// S24: the third waits for the second, which gets on, and does not fetch for himself without need.
func TestS24WaitersAgreeOnTheNextFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, dir := random(1<<20), t.TempDir()
		stopped := claim(t, open(t, dir), content)
		d, _, _ := patient(t, dir, 2*time.Second)
		second := claim(t, d, content)
		third, _, gaveUp := patient(t, dir, 2*time.Second)
		go func() {
			for at := int64(0); at < 1<<20; at += 1 << 17 {
				write(t, second, content, at, at+1<<17)
				time.Sleep(time.Second)
			}
			commit(t, second)
		}()
		_, err := third.Claim(t.Context(), digestOf(content), 1<<20)
		require.ErrorIs(t, err, ErrThere)
		assert.Equal(t, 1, *gaveUp)
		require.NoError(t, stopped.Close(false))
		requireBlob(t, dir, content)
	})
}

// S24: a holder that gets on is waited for, whatever it does: it writes, what comes first or last, or it
// shows that it is busy with other things.
func TestS24HolderThatGetsOn(t *testing.T) {
	t.Parallel()
	content := random(1 << 20)
	for what, step := range map[string]func(p *Partial, n int64){
		"writes in order": func(p *Partial, n int64) { write(t, p, content, n*1000, n*1000+1000) },
		"fills a gap": func(p *Partial, n int64) {
			write(t, p, content, 9e5-n*1000, 9e5-n*1000+1000)
			p.Touch() // the clock of the file system is too coarse for a bubble
		},
		"waits its turn": func(p *Partial, _ int64) { p.Touch() },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				holder := claim(t, open(t, dir), content)
				d, began, gaveUp := patient(t, dir, 10*time.Second)
				go func() {
					for n := range int64(10) {
						time.Sleep(8 * time.Second)
						step(holder, n)
					}
					fill(t, holder, content)
					commit(t, holder)
				}()
				_, err := d.Claim(t.Context(), digestOf(content), int64(len(content)))
				require.ErrorIs(t, err, ErrThere)
				assert.Equal(t, []int{1, 0}, []int{*began, *gaveUp})
				synctest.Wait()
				requireBlob(t, dir, content)
			})
		})
	}
}

// S24: what one waiter fetched for himself is there for the others, though the first holder still holds. What
// that one has is of no use then.
func TestS24AnotherWaiterIsFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, dir := random(1<<20), t.TempDir()
		stopped := claim(t, open(t, dir), content)
		write(t, stopped, content, 0, KeepThreshold)
		d, _, _ := patient(t, dir, time.Second)
		go func() {
			p := claim(t, d, content)
			fill(t, p, content)
			commit(t, p)
		}()
		slow, _, gaveUp := patient(t, dir, time.Hour)
		_, err := slow.Claim(t.Context(), digestOf(content), int64(len(content)))
		require.ErrorIs(t, err, ErrThere)
		assert.Zero(t, *gaveUp)
		require.NoError(t, stopped.Close(true))
		requireBlob(t, dir, content)
	})
}

// S24: who reads back a large blob, or waits for the disk, shows that he gets on.
func TestS24HashingIsSeen(t *testing.T) {
	content, dir := random(large), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	p.hasher.stop()
	fill(t, p, content)
	longAgo := time.Unix(1e9, 0)
	require.NoError(t, os.Chtimes(filepath.Join(dir, p.data.name), longAgo, longAgo))
	require.NoError(t, p.hasher.verify(t.Context()))
	assert.True(t, d.folder.claimedBy(p.name, 0).data.modified.After(longAgo))
	commit(t, p)
}

func TestS24WaitingForTheDiskIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, dir := random(1000), t.TempDir()
		d := open(t, dir)
		p := claim(t, d, content)
		seen := map[claimedError]bool{}
		end := p.data.beating()
		for range 10 {
			time.Sleep(beatEvery)
			synctest.Wait()
			seen[d.folder.claimedBy(p.name, 0)] = true
		}
		end()
		assert.Greater(t, len(seen), 8)
		require.NoError(t, p.Close(false))
		p.Touch() // too late, and no harm
	})
}

// S24: what a waiter has fetched for himself is kept too, and swept in the end.
func TestS24FileOfAWaiterIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, dir := random(1<<20), t.TempDir()
		holder := claim(t, open(t, dir), content)
		for _, written := range []int64{0, 1000} {
			d, _, _ := patient(t, dir, time.Second)
			p := claim(t, d, content)
			assert.Equal(t, []pieces.Range{{Start: written, End: 1 << 20}}, p.Missing())
			write(t, p, content, written, written+1000)
			require.NoError(t, p.Close(true))
		}
		fill(t, holder, content)
		commit(t, holder)
		_, err := open(t, dir).Has(digestOf(content), 1<<20)
		require.NoError(t, err)
		requireBlob(t, dir, content)
	})
}

// S27: who gives up a holder goes on with what that one has recorded, which is checked as all else is.
func TestS27WaiterGoesOnWithWhatTheHolderHas(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		size   int64
		spoil  bool // what the holder has recorded is wrong on disk
		closes bool // the holder ends meanwhile
	}{
		"medium": {5 << 20, false, false}, "large": {large, false, false},
		"large and wrong": {large, true, false}, "large, and it ends": {large, false, true},
	} {
		t.Run(what, func(t *testing.T) {
			content, dir, half := random(int(c.size)), t.TempDir(), int64(2<<20)
			synctest.Test(t, func(t *testing.T) {
				holder := claim(t, open(t, dir), content)
				write(t, holder, content, 0, 1<<20)
				write(t, holder, content, 1<<20, half)
				if c.spoil {
					flip(t, filepath.Join(dir, holder.name+partialSuffix), 5)
				}
				d, _, gaveUp := patient(t, dir, time.Second)
				p := claim(t, d, content)
				assert.Equal(t, 1, *gaveUp)
				assert.Equal(t, []pieces.Range{{Start: half, End: c.size}}, p.Missing())
				if c.closes {
					require.NoError(t, holder.Close(true))
				}
				fill(t, p, content)
				if c.spoil {
					var mismatch *MismatchError
					require.ErrorAs(t, p.Commit(t.Context()), &mismatch)
					assert.True(t, mismatch.Adopted)
					assert.Equal(t, []pieces.Range{{End: half}}, p.Missing())
					fill(t, p, content)
				}
				commit(t, p)
				require.NoError(t, holder.Close(true))
			})
			requireBlob(t, dir, content)
		})
	}
}

// S27: the next claim goes on with all that is there, whoever had passed over whom, and keeps one file.
func TestS27ClaimGoesOnWithWhatAWaiterHasLeft(t *testing.T) {
	t.Parallel()
	for what, keeps := range map[string]bool{"and a holder": true, "alone": false} {
		t.Run(what, func(t *testing.T) {
			content, dir := random(large), t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				holder := claim(t, open(t, dir), content)
				write(t, holder, content, 9<<20, 10<<20)
				d, _, _ := patient(t, dir, time.Second)
				waiter := claim(t, d, content)
				write(t, waiter, content, 0, 8<<20)
				require.NoError(t, holder.Close(keeps))
				require.NoError(t, waiter.Close(true))
			})
			p := claim(t, open(t, dir), content)
			missing := []pieces.Range{{Start: 8 << 20, End: 9 << 20}, {Start: 10 << 20, End: large}}
			assert.Equal(t, missing, p.Missing())
			assert.Equal(t, []string{p.name + journalSuffix, p.name + partialSuffix}, files(t, dir))
			fill(t, p, content)
			commit(t, p)
			requireBlob(t, dir, content)
		})
	}
}
