package main

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/progress"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// followed is a follower of an upload, and what it has found.
func followed(names map[string]string) (f *follower, there *int64) {
	f, there = newFollower(), new(int64)
	f.names = names
	f.there = func(n int64) { *there += n }
	return f, there
}

func TestWhatThisRunHasSentWasNotThere(t *testing.T) {
	f, there := followed(nil)
	trace := f.trace()
	a, b, c := transfer.Blob{Digest: "a", Size: 300}, transfer.Blob{Digest: "b", Size: 50},
		transfer.Blob{Digest: "c", Size: 7}
	trace.Present(transfer.PresentInfo{Blob: c, Where: transfer.Mounted})
	assert.EqualValues(t, 7, *there)
	trace.Started(transfer.StartInfo{Blob: a, Offset: 100})
	assert.EqualValues(t, 107, *there, "an earlier run has sent it")
	trace.Started(transfer.StartInfo{Blob: a, Offset: 200}) // after a failure of this run
	trace.Done(transfer.DoneInfo{Blob: a, Moved: 200, Reused: 100})
	assert.EqualValues(t, 107, *there)
	trace.Done(transfer.DoneInfo{Blob: b, Reused: 50}) // all of it was sent, and it was only to be ended
	assert.EqualValues(t, 157, *there)
}

func TestLargeBlobsOnTheirWayAreTold(t *testing.T) {
	const size = 64 << 20
	unnamed := transfer.Blob{Digest: "sha256:" + strings.Repeat("0", 64), Size: size}
	named := transfer.Blob{Digest: someDigest, Size: 2 * size}
	f, _ := followed(map[string]string{someDigest: "model.gguf"})
	trace := f.trace()
	assert.Empty(t, f.moving())
	trace.Moving(transfer.MoveInfo{Blob: named, Completed: 10})
	trace.Moving(transfer.MoveInfo{Blob: named, Completed: 20})
	trace.Moving(transfer.MoveInfo{Blob: unnamed, Completed: 30})
	trace.Moving(transfer.MoveInfo{Blob: transfer.Blob{Digest: "small", Size: 5}, Completed: 5})
	assert.Equal(t, []progress.Blob{
		{Name: "model.gguf", Done: 20, Total: 2 * size}, {Name: "sha256:000000000000", Done: 30, Total: size},
	}, f.moving())
	trace.Done(transfer.DoneInfo{Blob: unnamed})
	assert.Len(t, f.moving(), 1)
	trace.Failed(transfer.FailInfo{Blob: named})
	assert.Empty(t, f.moving())
}

// Notes say what is tried again; --quiet lets the first pass, and one each minute, of those that are waited
// for.
func TestNotesOfATransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := errors.New("503")
		tell := func(quiet, verbose bool) string {
			var stderr lockedBuffer
			a := &app{stderr: &stderr, stdout: &stderr, getenv: noEnv}
			a.quiet, a.verbose = quiet, verbose
			trace := new(notes).trace(a, newFollower())
			if verbose {
				require.Nil(t, trace.Retried, "the log says so")
				require.Nil(t, trace.Skipped)
				return ""
			}
			trace.Skipped(transfer.MirrorInfo{Host: "m", Err: busy, Until: time.Now().Add(time.Minute)})
			trace.Retried(transfer.RetryInfo{Err: errors.New("wrong digest")})
			trace.Retried(transfer.RetryInfo{Err: busy, Wait: 1500 * time.Millisecond})
			trace.Retried(transfer.RetryInfo{Err: busy, Wait: time.Second})
			return stderr.String()
		}
		assert.Equal(t, "mirror m is left alone for 1m0s: 503\ntrying again: wrong digest\n"+
			"trying again in 1.5 s: 503\ntrying again in 1.0 s: 503\n", tell(false, false))
		assert.Equal(t, "trying again in 1.5 s: 503\n", tell(true, false))
		tell(false, true)
	})
}
