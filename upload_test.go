package transfer_test

import (
	"bytes"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestSingleRequestForSmallBlobs(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for _, single := range []bool{true, false} {
			w := newWorld(t, mode, registrytest.Options{SingleShot: single})
			var blobs []transfer.Blob
			for i := range 20 {
				blobs = append(blobs, w.local(1000+i))
			}
			opts := w.uploadOptions(blobs...)
			opts.Concurrency = 1
			require.NoError(t, w.upload(opts))
			w.reg.Wait()
			var sum int64
			for _, b := range blobs {
				sum += b.Size
			}
			assert.Equal(t, sum, w.reg.BytesReceived(), "bytes on the wire")
			if single {
				const ahead = 4 // had begun when the trial was answered
				assert.LessOrEqual(t, len(w.reg.Requests()), 2*len(blobs)+ahead)
			} else {
				assert.Len(t, w.reg.Requests(), 3*len(blobs))
			}
		}
	})
}

// A registry that breaks the connection when a body comes with the request that begins an upload gets
// none of them again.
func TestSingleRequestThatBreaksTheConnection(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("POST", "digest=", "**reset")
		opts := w.uploadOptions(w.local(1000), w.local(1001), w.local(1002))
		opts.Concurrency = 1
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 1, w.reg.Count("POST", "digest="))
	})
}

func TestUpload(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
		opts := w.uploadOptions(w.local(10), w.local(0), w.local(1<<20), w.local(40<<20))
		opts.Manifest, opts.ManifestRef = []byte(`{"schemaVersion":2}`), "latest"
		require.NoError(t, w.upload(opts))
		w.reg.Wait()
		assert.EqualValues(t, 10+1<<20+40<<20+len(opts.Manifest), w.reg.BytesReceived(), "bytes on the wire")
		assert.Zero(t, w.reg.Sessions())
		got, ok := w.reg.Manifest(repository, "latest")
		require.True(t, ok)
		assert.Equal(t, opts.Manifest, got)
	})
}

func TestUploadAsksThreeTimesForABlob(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions()
		for i := range 30 {
			opts.Blobs = append(opts.Blobs, w.local(i*50_000))
		}
		require.NoError(t, w.upload(opts))
		w.reg.Wait()
		assert.LessOrEqual(t, len(w.reg.Requests()), 3*len(opts.Blobs))
		assert.Equal(t, len(opts.Blobs), w.reg.Count("PUT", ""))
		assert.Equal(t, 50_000*29*30/2, int(w.reg.BytesReceived()))
	})
}

func TestUploadOfWhatIsThere(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(0), w.local(100), w.local(40<<20))
		for _, b := range opts.Blobs {
			w.reg.Put(repository, w.data(b))
		}
		require.NoError(t, w.upload(opts))
		assert.Len(t, w.reg.Requests(), 3)
		assert.Equal(t, 3, w.reg.Count("HEAD", "/blobs/"))
		total := int64(100 + 40<<20)
		assert.Equal(t, [2]int64{total, total}, w.progress.calls[len(w.progress.calls)-1])

		missing := w.local(200)
		opts.Blobs = append(opts.Blobs, missing)
		require.NoError(t, w.upload(opts))
		w.reg.Wait()
		assert.Equal(t, missing.Size, w.reg.BytesReceived())
		assert.Equal(t, 1, w.reg.Count("PUT", ""))
	})
}

func TestUploadOfABlobThatIsListedTwice(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		require.NoError(t, w.upload(w.uploadOptions(b, b, b)))
		assert.Equal(t, []string{"HEAD", "PUT"}, w.requestsOf(b))
		assert.Equal(t, b.Size, w.progress.calls[0][1], "total")
	})
}

func TestUploadWithOtherDigests(t *testing.T) {
	cases := named(string(digest.SHA384), string(digest.SHA512))
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, algorithm string) {
		w := newWorld(t, mode, registrytest.Options{})
		data := []byte("blob")
		b := transfer.Blob{Digest: digest.Algorithm(algorithm).FromBytes(data).String(), Size: 4}
		w.content[digest.Digest(b.Digest)] = data
		require.NoError(t, os.WriteFile(w.path(b), data, 0o644))
		require.NoError(t, w.upload(w.uploadOptions(b)))
	})
}

func TestHeadThatDoesNotTell(t *testing.T) {
	cases := named("400", "403", "405", "410", "501")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("HEAD", "", "**"+script)
		b := w.local(3 << 20)
		begun := time.Now()
		require.NoError(t, w.upload(w.uploadOptions(b)))
		assert.Equal(t, []string{"HEAD", "PUT"}, w.requestsOf(b))
		assert.Less(t, time.Since(begun), noBackoff)
	})
}

func TestUploadsOfTheSameBlobsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		blobs := []transfer.Blob{w.local(10), w.local(3 << 20), w.local(34 << 20)}
		var g errgroup.Group
		for range 3 {
			opts := w.uploadOptions(blobs...)
			opts.Progress = nil
			g.Go(func() error { return transfer.Upload(t.Context(), opts) })
		}
		require.NoError(t, g.Wait())
		w.reg.Wait()
		for _, b := range blobs {
			data, _ := w.reg.Blob(digest.Digest(b.Digest))
			assert.True(t, bytes.Equal(w.data(b), data))
		}
		assert.Zero(t, w.reg.Sessions())
	})
}

// Small blobs are not asked about one by one where the registry has none of them, yet what it has is
// hardly ever sent.
func TestUploadAsksLittleWhereAllIsMissing(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		const each, ahead = 200, 5
		var blobs []transfer.Blob
		for i := range 2 * each {
			blobs = append(blobs, w.local(1000+i))
		}
		opts := w.uploadOptions(blobs[each:]...)
		opts.Concurrency = 1
		require.NoError(t, w.upload(opts))
		assert.InDelta(t, 32+(each-32)/16, w.reg.Count("HEAD", "/blobs/"), ahead)

		asked, begun := w.reg.Count("HEAD", "/blobs/"), w.reg.Count("POST", "/uploads/")
		require.NoError(t, w.upload(opts))
		assert.Equal(t, each, w.reg.Count("HEAD", "/blobs/")-asked, "what is there is found by asking")
		assert.Equal(t, begun, w.reg.Count("POST", "/uploads/"))

		again := newWorld(t, mode, registrytest.Options{})
		for _, b := range blobs[:each] { // the smaller half, which comes later
			again.reg.Put(repository, w.data(b))
		}
		again.dir, again.content = w.dir, w.content
		opts = again.uploadOptions(blobs...)
		opts.Concurrency = 1
		require.NoError(t, again.upload(opts))
		assert.InDelta(t, each+16, again.reg.Count("POST", "/uploads/"), 16+ahead,
			"one hit, and all are asked about")
	})
}
