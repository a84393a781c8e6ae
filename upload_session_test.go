package transfer_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestUploadContinuesItsSessionAfterAFault(t *testing.T) {
	cases := named("reset(12M)", "reset(12M)->ok->reset(3M)", "cut(12M)->ok->503") // PUT, GET, PATCH
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{StrictState: true})
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

func TestU9LostSessionIsBegunAnew(t *testing.T) {
	cases := map[string]string{
		"404": "404", "416": "416", "unknown": "reset(9M)",
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
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
		"BLOB_UPLOAD_UNKNOWN": true, "BLOB_UPLOAD_INVALID": true, "DIGEST_INVALID": true, "SIZE_INVALID": false,
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

func TestUploadChunksRespectTheLeastSize(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 7 << 20, MinChunk: 5 << 20})
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
		w := newWorld(t, mode, registrytest.Options{StrictState: true})
		b := w.local(40 << 20)
		w.interrupted(b)
		before := w.reg.BytesReceived()

		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, b.Size, w.reg.BytesReceived(), "%d bytes were there already", before)
		assert.Equal(t, 1, w.reg.Count("POST", "/uploads/"))
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestUploadKeepsTheSessionOfAnEarlierCall(t *testing.T) {
	type test struct{ method, script string }
	cases := map[string]test{
		"while the session is asked": {"GET", "delay(1m)"}, "before a byte": {"PATCH", "stallbody(0)"},
		"busy": {"GET", "**503"},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		w := newWorld(t, mode, registrytest.Options{StrictState: true})
		b := w.local(40 << 20)
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

// Others have learnt in the meantime that the chunk of this blob was too large.
func TestUploadInChunksOfSeveralBlobsWhereBodiesAreLimited(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MinChunk: 5 << 20, MaxBody: 6 << 20})
		opts := w.uploadOptions()
		for i := range 4 {
			opts.Blobs = append(opts.Blobs, w.local(13<<20+i))
		}
		require.NoError(t, w.upload(opts))
	})
}
