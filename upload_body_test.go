package transfer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestU11LostAnswer(t *testing.T) {
	scripts := []string{"swallow", "swallow+504", "swallow+reset", "swallow+hangup", "swallow+stallheaders"}
	ways := map[string]registrytest.Options{"PUT": {}, "POST": {SingleShot: true}, "PATCH": {MaxBody: 1 << 20}}
	for _, script := range scripts {
		for name, opts := range ways {
			t.Run(script+" "+name, func(t *testing.T) {
				inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
					w := newWorld(t, mode, opts)
					method, size := "PUT", 1<<20
					switch name {
					case "POST":
						method = "POST"
					case "PATCH": // chunks, the last of which comes with a PUT
						size = 1300 << 10
						w.reg.Fault("PUT", "", "413")
					}
					fault := w.reg.Fault(method, "", script)
					b := w.local(size)
					begun := time.Now()
					require.NoError(t, w.upload(w.uploadOptions(b)))
					w.reg.Wait()
					assert.True(t, fault.Done())
					assert.Equal(t, b.Size, w.reg.BytesReceived(), "the body is sent once")
					assert.LessOrEqual(t, w.reg.Count("HEAD", ""), 4)
					if name != "PATCH" { // for which a session was given up
						assert.Zero(t, w.reg.Count("DELETE", ""), "it is looked for first")
					}
					assert.LessOrEqual(t, w.reg.Count("DELETE", ""), 1)
					assert.Zero(t, w.reg.Sessions())
					assert.Less(t, time.Since(begun), 15*time.Second)
				})
			})
		}
	}
}

func TestN1UploadConnectionBreaks(t *testing.T) {
	cases := named("reset(100K)", "cut(100K)", "2*reset(1M)", "reset", "hangup", "503+goaway->reset")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		fault := w.reg.Fault("PUT", "/uploads/", script)
		b := w.local(3 << 20)
		begun := time.Now()
		require.NoError(t, w.upload(w.uploadOptions(b)))
		assert.Less(t, time.Since(begun), 3*time.Second)
		w.reg.Wait()
		assert.True(t, fault.Done())
		assert.Zero(t, w.reg.Sessions(), "the broken session was deleted")
	})
}

func TestN7N8UploadStalls(t *testing.T) {
	for name, c := range map[string]struct{ method, path, script string }{
		"N7 body":      {"PUT", "/uploads/", "stallbody(1M)"},
		"N7 beginning": {"PUT", "/uploads/", "stallbody(0)"},
		"N8 answer":    {"PUT", "/uploads/", "stallheaders"},
		"N8 HEAD":      {"HEAD", "", "stallheaders"},
		"N8 POST":      {"POST", "", "stallheaders"},
		"N8 manifest":  {"PUT", "/manifests/", "stallheaders"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault(c.method, c.path, c.script)
				opts := w.uploadOptions(w.local(3 << 20))
				opts.StallTimeout = 4 * time.Second
				opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
				begun := time.Now()
				require.NoError(t, w.upload(opts))
				assert.GreaterOrEqual(t, time.Since(begun), 4*time.Second)
				assert.Less(t, time.Since(begun), 6*time.Second)
			})
		})
		t.Run(name+" for ever", func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault(c.method, c.path, "**"+c.script)
				opts := w.uploadOptions(w.local(3 << 20))
				opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
				begun := time.Now()
				err := w.upload(opts)
				require.ErrorIs(t, err, transfer.ErrStalled)
				require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
				w.reg.Wait()
				if c.method == "HEAD" { // the registry has not answered once
					assert.Equal(t, 6, w.reg.Count("HEAD", ""))
					return
				}
				assert.Greater(t, time.Since(begun), 5*time.Minute-30*time.Second)
				assert.Less(t, time.Since(begun), 6*time.Minute)
				assert.LessOrEqual(t, w.reg.Count(c.method, c.path), 35)
			})
		})
	}
}

// A registry may hash a large body before it answers.
func TestSlowDigestIsNoStall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", "**late(2500ms)")
		opts := w.uploadOptions(w.local(33 << 20))
		opts.StallTimeout = time.Second
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 1, w.reg.Count("PUT", ""))
	})
}

func TestRegistryThatStoresAnotherBlob(t *testing.T) {
	other := digest.FromString("another").String()
	cases := map[string]registrytest.Options{"PUT": {}, "POST": {SingleShot: true}}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, name string, opts registrytest.Options) {
		w := newWorld(t, mode, opts)
		w.reg.Fault(name, "digest=", "**header(-docker-content-digest; docker-content-digest: "+other+")")
		b := w.local(1000)
		err := w.upload(w.uploadOptions(b))
		require.ErrorIs(t, err, transfer.ErrDigestMismatch)
		requireBlobError(t, err, b, "upload")
		assert.Equal(t, 1, w.reg.Count(name, "digest="))
	})
}

// A registry may name what it has stored by a digest of another algorithm, which says nothing.
func TestRegistryThatStoresUnderAnotherAlgorithm(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		other := digest.SHA512.FromString("whatever").String()
		w.reg.Fault("PUT", "digest=", "header(-docker-content-digest; docker-content-digest: "+other+")")
		require.NoError(t, w.upload(w.uploadOptions(w.local(1000))))
	})
}

func TestU11LostAnswerWhereAllIsMissing(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{SingleShot: true})
		var blobs []transfer.Blob
		var sum int64
		for i := range 60 {
			blobs = append(blobs, w.local(2000-i))
			sum += blobs[i].Size
		}
		w.reg.Fault("POST", strings.TrimPrefix(blobs[55].Digest, "sha256:"), "swallow")
		opts := w.uploadOptions(blobs...)
		opts.Concurrency = 1
		require.NoError(t, w.upload(opts))
		w.reg.Wait()
		assert.Equal(t, sum, w.reg.BytesReceived())
	})
}

// What buffers on the way hold of a body is not seen to move: an answer that does not come in time is
// waited for longer.
func TestN9UploadOverASlowLinkWithBuffers(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "**slow(50K)")
		b := w.local(3 << 20)
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.LessOrEqual(t, w.reg.BytesReceived(), 3*b.Size)
	})
}

// The time that a registry takes to hash a large blob does not count as time without progress.
func TestU11FailsAfterALongDigest(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		fault := w.reg.Fault("PUT", "", "read+late(1900ms)+504")
		opts := w.uploadOptions(w.local(33 << 20))
		opts.RetryTimeout = time.Second
		require.NoError(t, w.upload(opts))
		assert.True(t, fault.Done())
	})
}
