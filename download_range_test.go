package transfer_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// N14: the body of a 416 is not the blob's, even where its Content-Range says so.
func TestN14RefusedRangeWithAFittingContentRange(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "eof(300K)->416(content-range: bytes 307200-1048575/1048576)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		ranges := w.ranges(b)
		require.Len(t, ranges, 3)
		assert.Empty(t, ranges[2], "asked for as a whole")
		assert.Zero(t, w.progress.falls, "nothing of it was written")
	})
}

// N10: a registry that has ignored a range is not asked for one of that blob again.
func TestN10IgnoredRangeIsNotAskedForAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoRange: true})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "eof(300K)->eof(600K)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		ranges := w.ranges(b)
		require.Len(t, ranges, 3)
		assert.NotEmpty(t, ranges[1])
		assert.Empty(t, ranges[2])
	})
}

// N10: bytes that are read past are bytes that come.
func TestN10ReadingPastIsNoStall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoRange: true})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "eof(500K)->slow(10K)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		assert.Equal(t, 2, w.gets(b))
	})
}

// N10 to N14: an answer to a range that is not what was asked for.
func TestN11N12N13N14DownloadSurvivesWrongRanges(t *testing.T) {
	for _, c := range []struct {
		name, script string
		requests     int
	}{
		{"N10 ignored", "eof(300K)->norange", 2},
		{"N11 wrong start", "eof(300K)->asked(bytes=5-)", 3},
		{"N11 start that is there", "eof(300K)->asked(bytes=0-)", 3},
		{"N11 later start", "eof(300K)->asked(bytes=400000-)", 3},
		{"N12 no Content-Range", "eof(300K)->range()", 3},
		{"N12 two", "eof(300K)->range(bytes 307200-1048575/1048576; bytes 0-9/1048576)", 3},
		{"N12 of nothing", "eof(300K)->range(bytes */1048576)", 3},
		{"N12 junk", "eof(300K)->range(lines 1-2/3)", 3},
		{"N12 short end", "eof(300K)->range(bytes 307200-307300/1048576)", 3},
		{"N12 another size", "eof(300K)->range(bytes 307200-1048575/1048577)", 3},
		{"N12 unknown size", "eof(300K)->range(bytes 307200-1048575/*)", 2},
		{"N13 206 to no Range", "206", 2},
		{"N13 206 with a Content-Range to no Range", "range(bytes 0-1048575/1048576)", 2},
		{"N14 416", "eof(300K)->416", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(mebibyte)
				w.reg.Fault("GET", b.Digest, c.script)
				require.NoError(t, w.download(w.downloadOptions(b)))
				ranges := w.ranges(b)
				require.Len(t, ranges, c.requests)
				if c.requests == 3 {
					assert.Regexp(t, `^bytes=\d+-1048575$`, ranges[1])
					assert.Empty(t, ranges[2], "asked for as a whole")
				}
				assert.Zero(t, w.progress.falls, "nothing wrong was written")
				w.requireOnly(b)
			})
		})
	}
}

func TestN10LargeBlobWithoutRanges(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoRange: true})
		b := w.remoteLarge()
		require.NoError(t, w.download(w.downloadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, 1, w.gets(b))
		assert.Equal(t, b.Size, w.reg.BytesSent())
	})
}

// A registry whose ranges were wrong once is not asked for ranges of that blob again, by nobody.
func TestN11NoStealingAfterWrongRanges(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(20 * mebibyte)
		w.reg.Fault("GET", b.Digest, "eof(300K)->range()->slow(1M)->**range()")
		require.NoError(t, w.download(w.downloadOptions(b)))
		assert.Equal(t, 3, w.gets(b))
	})
}

// N47: a registry that has served other blobs has nodes that are well, however often another one answers.
func TestN47StaleNodeInARow(t *testing.T) {
	for wrong, c := range map[string]struct {
		times int
		fails bool
	}{"416": {times: 6}, "206": {times: 6}, "range()": {times: 7, fails: true}} {
		t.Run(wrong, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				first, b := w.remote(2*mebibyte), w.remote(mebibyte)
				w.reg.Fault("GET", b.Digest, fmt.Sprintf("%d*%s", c.times, wrong))
				opts := w.downloadOptions(first, b)
				opts.Concurrency = 1
				err := w.download(opts)
				assert.Equal(t, 7, w.gets(b))
				if c.fails {
					require.ErrorIs(t, err, transfer.ErrProtocol)
					return
				}
				require.NoError(t, err)
				w.requireOnly(first, b)
			})
		})
	}
}
