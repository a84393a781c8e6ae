package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
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

// requestsOf are the methods of the requests that name a blob, in order.
func (w *world) requestsOf(b transfer.Blob) (methods []string) {
	for _, r := range w.reg.Requests() {
		if target := r.Path + "?" + r.RawQuery; strings.Contains(target, b.Digest) || strings.Contains(target, url.QueryEscape(b.Digest)) {
			methods = append(methods, r.Method)
		}
	}
	return methods
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
	for _, algorithm := range []digest.Algorithm{digest.SHA384, digest.SHA512} {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{})
			data := []byte("blob")
			b := transfer.Blob{Digest: algorithm.FromBytes(data).String(), Size: 4}
			w.content[digest.Digest(b.Digest)] = data
			require.NoError(t, os.WriteFile(w.path(b), data, 0o644))
			require.NoError(t, w.upload(w.uploadOptions(b)))
		})
	}
}

func TestUploadProgress(t *testing.T) {
	for name, script := range map[string]string{"clean": "ok", "reset": "reset(9M)", "lost answer": "swallow"} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault("PUT", "/uploads/", script)
				there, b, small := w.local(5<<20), w.local(10<<20), w.local(100)
				w.reg.Put(repository, w.data(there))
				require.NoError(t, w.upload(w.uploadOptions(there, b, small, small)))
				assert.Zero(t, w.progress.falls, "it never goes backwards")
				for _, call := range w.progress.calls {
					assert.EqualValues(t, 15<<20+100, call[1], "total")
				}
			})
		})
	}
}

func TestUploadSpeedCap(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(4<<20), w.local(1<<20))
		opts.MaxBytesPerSecond = 256 << 10
		begun := time.Now()
		require.NoError(t, w.upload(opts))
		assert.InDelta(t, 20, time.Since(begun).Seconds(), 1, "seconds")
	})
}

func TestU13Mount(t *testing.T) {
	for name, c := range map[string]struct {
		noMount, elsewhere bool
		script             string
		posts, puts        int
	}{
		"done":                  {elsewhere: true, posts: 1},
		"U13 refused with 202":  {elsewhere: true, noMount: true, posts: 1, puts: 1},
		"U13 not there":         {posts: 1, puts: 1},
		"refused with 404":      {elsewhere: true, script: "404", posts: 2, puts: 1},
		"refused with 405":      {elsewhere: true, script: "405", posts: 2, puts: 1},
		"refused with 403":      {elsewhere: true, script: "403", posts: 2, puts: 1},
		"503, then done":        {elsewhere: true, script: "503", posts: 2},
		"done, the answer lost": {elsewhere: true, script: "swallow", posts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{NoMount: c.noMount})
				b := w.local(3 << 20)
				b.From = "library/other"
				if c.elsewhere {
					w.reg.Put(b.From, w.data(b))
				}
				if c.script != "" {
					w.reg.Fault("POST", "mount", c.script)
				}
				require.NoError(t, w.upload(w.uploadOptions(b)))
				w.reg.Wait()
				assert.True(t, w.reg.Has(repository, digest.Digest(b.Digest)))
				assert.Equal(t, c.posts, w.reg.Count("POST", ""))
				assert.Equal(t, c.puts, w.reg.Count("PUT", ""))
				assert.Equal(t, int64(c.puts)*b.Size, w.reg.BytesReceived())
				assert.Equal(t, 1+strings.Count(c.script, "503"), w.reg.Count("POST", "from=library%2Fother&mount="+url.QueryEscape(b.Digest)))
				assert.Zero(t, w.reg.Sessions())
			})
		})
	}
}

func TestHeadThatDoesNotTell(t *testing.T) {
	for _, script := range []string{"400", "403", "405", "410", "501"} {
		t.Run(script, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault("HEAD", "", "**"+script)
				b := w.local(3 << 20)
				begun := time.Now()
				require.NoError(t, w.upload(w.uploadOptions(b)))
				assert.Equal(t, []string{"HEAD", "PUT"}, w.requestsOf(b))
				assert.Less(t, time.Since(begun), noBackoff)
			})
		})
	}
}

func TestUploadCancelled(t *testing.T) {
	reason := errors.New("changed my mind")
	for name, after := range map[string]time.Duration{
		"during HEAD": 500 * time.Millisecond, "during POST": 1500 * time.Millisecond, "during PUT": 4 * time.Second, "while it is answered": 9 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault("HEAD", "", "delay(1s)")
				w.reg.Fault("POST", "", "delay(1s)")
				w.reg.Fault("PUT", "", "slow(1M)+swallow+stallheaders")
				opts := w.uploadOptions(w.local(5 << 20))
				opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(after, func() { cancel(reason) })
				begun := time.Now()
				err := transfer.Upload(ctx, opts)
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, reason)
				assert.LessOrEqual(t, time.Since(begun), after+time.Second)
				w.progress.check(t, err)
				w.reg.Wait()
				assert.Zero(t, w.reg.Sessions(), "the session is deleted")
				assert.Zero(t, w.reg.Count("PUT", "/manifests/"))
			})
		})
	}
}

func TestUploadDeadline(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("", "", "**503")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		begun := time.Now()
		err := transfer.Upload(ctx, w.uploadOptions(w.local(10)))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 20*time.Second, time.Since(begun))
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

// Small blobs are not asked about one by one where the registry has none of them, yet what it has is hardly ever sent.
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
		assert.InDelta(t, each+16, again.reg.Count("POST", "/uploads/"), 16+ahead, "one hit, and all are asked about")
	})
}

// A token may be good for the target alone, while a mount needs one for both repositories.
func TestU13MountThatTheTokenDoesNotAllow(t *testing.T) {
	for name, give := range map[string]func(context.Context, int) (string, error){
		"no GetToken": nil,
		"not granted": func(context.Context, int) (string, error) { return "token", nil },
		"denied":      func(context.Context, int) (string, error) { return "", errors.New("denied") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.local(3 << 20)
				b.From = "library/other"
				w.reg.Put(b.From, w.data(b))
				w.reg.Fault("POST", "mount", "**401")
				opts := w.uploadOptions(b)
				if give != nil {
					opts.GetToken = (&issuer{give: give}).getToken
				}
				require.NoError(t, w.upload(opts))
				assert.Equal(t, b.Size, w.reg.BytesReceived())
			})
		})
	}
}

// Where nothing is mounted, what the repository has already is not sent.
func TestU13MountOfWhatIsThere(t *testing.T) {
	for _, script := range []string{"ok", "**404"} {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{NoMount: true})
			w.reg.Fault("POST", "mount", script)
			b := w.local(3 << 20)
			b.From = "library/other"
			w.reg.Put(repository, w.data(b))
			require.NoError(t, w.upload(w.uploadOptions(b)))
			w.reg.Wait()
			assert.Zero(t, w.reg.BytesReceived())
			assert.Zero(t, w.reg.Sessions())
		})
	}
}
