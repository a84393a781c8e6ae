package transfer_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestUploadContinuesItsSessionAfterAFault(t *testing.T) {
	cases := named("reset(12M)", "reset(12M)->ok->reset(3M)", "cut(12M)->ok->503") // PUT, GET, PATCH
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{Sessions: registrytest.Sessions{StrictState: true}})
		fault := w.reg.Fault("", "/uploads/session", script)
		b := w.local(20 << 20)
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.True(t, fault.Done())
		assert.Zero(t, w.progress.falls)
		assert.Equal(t, 1, w.reg.Count("POST", "/uploads/"), "the session was continued")
		assert.LessOrEqual(t, w.reg.BytesReceived(), b.Size+4<<20, "what had arrived was not sent again")
	})
}

func TestN1UploadConnectionBreaks(t *testing.T) {
	cases := named("reset(100K)", "cut(100K)", "2*reset(1M)", "reset", "hangup", "503+goaway->reset")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
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

func TestU9LostSessionIsBegunAnew(t *testing.T) {
	cases := map[string]string{
		"404": "404", "416": "416", "unknown": "reset(9M)",
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", script)
		w.reg.Fault("GET", "/uploads/", "**404")
		b := w.local(10 << 20)
		require.NoError(t, w.upload(w.uploadOptions(b)))
		assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
	})
	t.Run("for ever", func(t *testing.T) {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{})
			w.reg.Fault("PUT", "/uploads/", "**404")
			err := w.upload(w.uploadOptions(w.local(100)))
			requireStatus(t, err, http.StatusNotFound)
			assert.LessOrEqual(t, w.reg.Count("PUT", "/uploads/"), 5)
		})
	})
}

// U9: a registry may tell by its error code alone that it has forgotten a session. U20: DIGEST_INVALID
// is believed the second time, where our own hash was right.
func TestU9U20SessionThatIsLostByItsErrorCode(t *testing.T) {
	cases := map[string]bool{
		"BLOB_UPLOAD_UNKNOWN": true, "BLOB_UPLOAD_INVALID": true, "DIGEST_INVALID": true,
		"SIZE_INVALID": false,
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, code string, lost bool) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "", fmt.Sprintf(`says(400, {"errors":[{"code":%q,"message":"no"}]})`, code))
		err := w.upload(w.uploadOptions(w.local(3 << 20)))
		if lost {
			require.NoError(t, err)
			assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
			return
		}
		requireStatus(t, err, http.StatusBadRequest)
		assert.Equal(t, 1, w.reg.Count("POST", "/uploads/"))
	})
}

// U9: a session of a small blob that is out of step is not asked how much it has.
func TestU9SmallBlobIsOutOfStep(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "416")
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
		assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
		assert.Zero(t, w.reg.Count("GET", "/uploads/"))
	})
}

func TestU11LostAnswer(t *testing.T) {
	scripts := []string{"swallow", "swallow+504", "swallow+reset", "swallow+hangup", "swallow+stallheaders"}
	ways := map[string]registrytest.Options{"PUT": {}, "POST": {SingleShot: true},
		"PATCH": {MaxBody: 1 << 20}}
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

func TestRegistryThatStoresAnotherBlob(t *testing.T) {
	other := digest.FromString("another").String()
	cases := map[string]registrytest.Options{"PUT": {}, "POST": {SingleShot: true}}
	eachInBubbles(t, cases, func(
		t *testing.T, mode registrytest.Mode, name string, opts registrytest.Options,
	) {
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

func TestUploadInChunksWhereBodiesAreLimited(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 3 << 20})
		b := w.local(10 << 20)
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Less(t, w.reg.BytesReceived(), b.Size+b.Size/10, "refused bodies are not sent")
		for _, r := range w.reg.Requests() {
			assert.LessOrEqual(t, r.BodyBytes, int64(3<<20))
		}
	})
}

// Others have learnt in the meantime that the chunk of this blob was too large.
func TestUploadInChunksOfSeveralBlobsWhereBodiesAreLimited(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{
			MaxBody: 6 << 20, Sessions: registrytest.Sessions{MinChunk: 5 << 20},
		})
		opts := w.uploadOptions()
		for i := range 4 {
			opts.Blobs = append(opts.Blobs, w.local(13<<20+i))
		}
		require.NoError(t, w.upload(opts))
	})
}

func TestUploadChunksRespectTheLeastSize(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{
			MaxBody: 7 << 20, Sessions: registrytest.Sessions{MinChunk: 5 << 20},
		})
		require.NoError(t, w.upload(w.uploadOptions(w.local(18<<20))))
	})
}

func TestUploadOfWhatIsRefusedInAnySizeFails(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 1000})
		err := w.upload(w.uploadOptions(w.local(5 << 20)))
		requireStatus(t, err, http.StatusRequestEntityTooLarge)
		assert.LessOrEqual(t, len(w.reg.Requests()), 20)
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestUploadContinuesTheSessionOfAnEarlierCall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Sessions: registrytest.Sessions{StrictState: true}})
		b := w.local(largeSize)
		w.interrupted(b)
		before := w.reg.BytesReceived()

		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, b.Size, w.reg.BytesReceived(), "%d bytes were there already", before)
		assert.Equal(t, 1, w.reg.Count("POST", "/uploads/"))
		assert.Zero(t, w.reg.Sessions())
	})
}

// The same holds from 8 MiB on: over a slow link so much takes two minutes. Smaller blobs leave nothing.
func TestU30SessionOfAMediumBlobIsKept(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Sessions: registrytest.Sessions{StrictState: true}})
		b := w.local(resumableSize)
		w.interrupted(b)
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, b.Size, w.reg.BytesReceived())
		assert.Equal(t, 1, w.reg.Count("POST", "/uploads/"))
		require.NoFileExists(t, w.sessionRecord(b))

		small := w.local(resumableSize - 1)
		w.observe(func() { assert.NoFileExists(t, w.sessionRecord(small)) })
		require.NoError(t, w.upload(w.uploadOptions(small)))
		assert.NoFileExists(t, w.sessionRecord(small))
	})
}

func TestUploadKeepsTheSessionOfAnEarlierCall(t *testing.T) {
	type test struct{ method, script string }
	cases := map[string]test{
		"while the session is asked": {"GET", "delay(1m)"}, "before a byte": {"PATCH", "stallbody(0)"},
		"busy": {"GET", "**503"},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		w := newWorld(t, mode, registrytest.Options{Sessions: registrytest.Sessions{StrictState: true}})
		b := w.local(largeSize)
		w.interrupted(b)
		w.reg.Fault(c.method, "/uploads/", c.script)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		opts := w.uploadOptions(b)
		opts.Progress = nil
		require.ErrorIs(t, transfer.Upload(ctx, opts), context.DeadlineExceeded)
		w.reg.Wait()
		require.Equal(t, 1, w.reg.Sessions(), "it is for the next call")
	})
}

// sessionRecord is the file that remembers the upload session of a blob.
func (w *world) sessionRecord(b transfer.Blob) string {
	w.t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(w.t, err)
	place := w.server.URL + "/v2/" + repository + "/blobs/" + b.Digest
	return filepath.Join(cache, "modeltransfer", "uploads", digest.FromString(place).Encoded())
}

// allSessionRecords returns what all those files say.
func allSessionRecords(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	names, err := filepath.Glob(filepath.Join(cache, "modeltransfer", "uploads", "*"))
	require.NoError(t, err)
	var all strings.Builder
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil { // it may be another test's, and gone by now
			all.Write(data)
		}
	}
	return all.String()
}

// A session elsewhere is signed for a short time, and secret: a later call does not continue it.
func TestU3SessionElsewhereIsNotRemembered(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		w.reg.Fault("POST", "", "header(-location; location: "+
			elsewhere.URL+firstSession+"&sig=secret)")
		cdn.Fault("PUT", "", "slow(1M)")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(5*time.Second, cancel)
		b := w.local(largeSize)
		require.ErrorIs(t, transfer.Upload(ctx, w.uploadOptions(b)), context.Canceled)
		assert.NoFileExists(t, w.sessionRecord(b))
		assert.NotContains(t, allSessionRecords(t), "sig=secret")
	})
}

// U3: an upload session that is remembered leads nowhere else either.
func TestU3RememberedSessionElsewhereIsNotUsed(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		b := w.local(largeSize)
		name := w.sessionRecord(b)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		place := w.server.URL + "/v2/" + repository + "/blobs/" + b.Digest
		record := fmt.Appendf(nil, `{"blob":%q,"session":%q}`, place,
			elsewhere.URL+firstSession)
		require.NoError(t, os.WriteFile(name, record, 0o600))
		opts := w.uploadOptions(b)
		opts.Token = "secret"
		require.NoError(t, w.upload(opts))
		assert.Empty(t, cdn.Requests())
		assert.NoFileExists(t, name)
	})
}

func TestUploadSessionsThatAreGivenUpAreDeleted(t *testing.T) {
	type test struct{ put, patch, get string }
	cases := map[string]test{
		"will not tell how much":   {"reset(9M)", "ok", "**405"},
		"has more than there is":   {"reset(9M)", "ok", "**header(-range; range: 0-99999999)"},
		"tells nothing":            {"reset(9M)", "ok", "**header(-range)"},
		"out of step":              {"416", "2*416", "ok"},
		"invalid for the registry": {`says(400, {"errors":[{"code":"BLOB_UPLOAD_INVALID"}]})`, "ok", "ok"},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", c.put)
		w.reg.Fault("PATCH", "/uploads/", c.patch)
		w.reg.Fault("GET", "/uploads/", c.get)
		require.NoError(t, w.upload(w.uploadOptions(w.local(10<<20))))
		w.reg.Wait()
		assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestU3NothingIsDeletedElsewhere(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		w.reg.Fault("POST", "", "header(-location; location: "+
			elsewhere.URL+firstSession+")")
		cdn.Fault("PUT", "", "**403")
		requireStatus(t, w.upload(w.uploadOptions(w.local(3<<20))), http.StatusForbidden)
		assert.Len(t, cdn.Requests(), 1)
	})
}

// Not even where the registry says that the session is there now.
func TestU3NothingIsDeletedWhereASessionHasMoved(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		w.reg.Fault("PUT", "/uploads/", "**403")
		w.reg.Fault("DELETE", "/uploads/", "**416")
		w.reg.Fault("GET", "/uploads/", "**204(location: "+
			elsewhere.URL+firstSession+")")
		requireStatus(t, w.upload(w.uploadOptions(w.local(3<<20))), http.StatusForbidden)
		assert.NotZero(t, w.reg.Count("GET", "/uploads/"))
		assert.Empty(t, cdn.Requests())
	})
}

// ollamaModes are the ways in which an Ollama registry takes a blob.
func ollamaModes() map[string]registrytest.Ollama {
	signed := http.Header{"X-Amz-Checksum-Sha256": {"abc"}, "Content-Type": {"binary/x"}}
	return map[string]registrytest.Ollama{"direct": {Direct: true, SignedHeaders: signed}, "parts": {}}
}

func TestOllamaUploads(t *testing.T) {
	for name, o := range ollamaModes() {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{Token: "secret"})
				store := w.reg.ServeOllama(w.net, "store.test", mode, o)
				b := w.local(largeSize)
				opts := w.uploadOptions(b)
				opts.Token = "secret"
				require.NoError(t, w.upload(opts))
				assert.Empty(t, store.Violations())
				assert.Empty(t, store.Tokens(), "the store must not see the token")
				assert.Equal(t, b.Size, store.BytesReceived())
				require.Len(t, store.Uploads(), 1)
				assert.Equal(t, o.Direct, store.Uploads()[0].Direct)
				post := w.reg.Requests()[1]
				assert.Equal(t, "2", post.Header.Get("X-Redirect-Uploads"))
				assert.Equal(t, fmt.Sprint(b.Size), post.Header.Get("X-Content-Length"))
			})
		})
	}
}

func TestU12SignedHeadersThatAreNotTheRegistrysBusiness(t *testing.T) {
	cases := named("Host", "Authorization", "Cookie", "Content-Length", "Transfer-Encoding", "Connection")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, header string) {
		w := newWorld(t, mode, registrytest.Options{})
		o := registrytest.Ollama{Direct: true, SignedHeaders: http.Header{header: {"x"}}}
		store := w.reg.ServeOllama(w.net, "store.test", mode, o)
		require.ErrorIs(t, w.upload(w.uploadOptions(w.local(100))), transfer.ErrProtocol)
		assert.Empty(t, store.Requests())
		assert.Equal(t, 1, w.reg.Count("POST", ""), "no second try would mend it")
	})
}

func TestU11DirectUploadIsSentOnce(t *testing.T) {
	eachInBubbles(t, named("503", "500"), func(t *testing.T, mode registrytest.Mode, _, status string) {
		w := newWorld(t, mode, registrytest.Options{})
		store := w.reg.ServeOllama(w.net, "store.test", mode, registrytest.Ollama{Direct: true})
		w.reg.Fault("PUT", "", "2*"+status)
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
		assert.Equal(t, 1, store.Count("PUT", ""))
	})
}

// Some Ollama registries tell that they are one with the answer to PATCH, and not before.
func TestU26ProtocolIsLearntFromTheAnswerToPATCH(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		o := registrytest.Ollama{LateLocation: true, ExactParts: true}
		store := w.reg.ServeOllama(w.net, "store.test", mode, o)
		b := w.local(65 << 20) // of which the first PATCH announces 64 MiB
		opts := w.uploadOptions(b)
		opts.Token = "secret"
		require.NoError(t, w.upload(opts))
		assert.Empty(t, store.Violations())
		assert.Empty(t, store.Tokens())
		assert.Equal(t, b.Size, store.BytesReceived(), "the body is sent once")
		require.Len(t, store.Uploads(), 1)
		assert.Equal(t, []int64{b.Size}, store.Uploads()[0].Sizes)
	})
}

// expiries are what stores say to a signed URL that has expired, for each way to upload.
func expiries() map[string]expiry {
	all := make(map[string]expiry)
	for name, o := range ollamaModes() {
		for _, script := range []string{"s3(403 AccessDenied)", "s3(400 ExpiredToken)"} {
			all[name+" "+script] = expiry{o, script}
		}
	}
	return all
}

type expiry struct {
	ollama registrytest.Ollama
	script string
}

func TestU17SignedUploadURLThatHasExpired(t *testing.T) {
	eachInBubbles(t, expiries(), func(t *testing.T, mode registrytest.Mode, _ string, e expiry) {
		w := newWorld(t, mode, registrytest.Options{})
		store := w.reg.ServeOllama(w.net, "store.test", mode, e.ollama)
		store.Fault("PUT", "", e.script)
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
		puts := store.Requests()
		require.Len(t, puts, 2)
		assert.NotEqual(t, puts[0].Path+puts[0].RawQuery, puts[1].Path+puts[1].RawQuery, "another URL")
		assert.Empty(t, store.Violations())
	})
}

func TestU17SignedUploadURLsThatHaveAlwaysExpired(t *testing.T) {
	eachInBubbles(t, expiries(), func(t *testing.T, mode registrytest.Mode, _ string, e expiry) {
		w := newWorld(t, mode, registrytest.Options{})
		store := w.reg.ServeOllama(w.net, "store.test", mode, e.ollama)
		store.Fault("PUT", "", "**"+e.script)
		err := w.upload(w.uploadOptions(w.local(3 << 20)))
		var status *transfer.StatusError
		require.ErrorAs(t, err, &status)
		assert.LessOrEqual(t, store.Count("PUT", ""), 3, "a new URL is asked for once a body")
	})
}

// No URL is asked for long before a slot is free.
func TestU17SignedUploadURLsAreUsedInTime(t *testing.T) {
	for name, o := range ollamaModes() {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{Redirects: registrytest.Redirects{
					SignedFor: 5 * time.Second, ExpiredStatus: http.StatusBadRequest,
				}})
				store := w.reg.ServeOllama(w.net, "store.test", mode, o)
				store.Fault("PUT", "", "**slow(1M)")
				opts := w.uploadOptions()
				for i := range 8 {
					opts.Blobs = append(opts.Blobs, w.local(4<<20+i))
				}
				opts.Concurrency, opts.BodyConcurrency = 2, 1
				require.NoError(t, w.upload(opts))
				late := 0
				for _, r := range store.Requests() {
					if r.Status == http.StatusBadRequest {
						late++
					}
				}
				assert.LessOrEqual(t, late, 1, "URLs that had expired when they were used")
			})
		})
	}
}

func TestU23RequestTimeoutOfAnObjectStoreIsTemporary(t *testing.T) {
	for name, o := range ollamaModes() {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				store := w.reg.ServeOllama(w.net, "store.test", mode, o)
				store.Fault("PUT", "", "2*s3(400 RequestTimeout)")
				require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
				assert.Equal(t, 3, store.Count("PUT", ""))
			})
		})
	}
}
