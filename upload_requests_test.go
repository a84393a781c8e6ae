package transfer_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// I19: a caller who sets Concurrency bounds all requests, those that only ask included.
func TestI19UploadConcurrencyBoundsRequests(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		const most = 3
		w := newWorld(t, mode, registrytest.Options{})
		var active, peak atomic.Int64
		busy := w.net.Serve("busy.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			peak.Store(max(peak.Load(), active.Add(1)))
			defer active.Add(-1)
			time.Sleep(20 * time.Millisecond)
			w.reg.ServeHTTP(rw, r)
		}), mode)
		opts := w.uploadOptions()
		for i := range 20 {
			opts.Blobs = append(opts.Blobs, w.local(1000+i))
		}
		opts.BaseURL, opts.Concurrency = busy.URL, most
		require.NoError(t, w.upload(opts))
		assert.EqualValues(t, most, peak.Load())
	})
}
