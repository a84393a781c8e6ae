package transfer_test

import (
	"net/http"
	"sync"
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
		var mu sync.Mutex
		active, peak := 0, 0
		count := func(by int) (most int) {
			mu.Lock()
			defer mu.Unlock()
			active += by
			peak = max(peak, active)
			return peak
		}
		busy := w.net.Serve("busy.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			count(1)
			defer count(-1)
			time.Sleep(20 * time.Millisecond)
			w.reg.ServeHTTP(rw, r)
		}), mode)
		opts := w.uploadOptions()
		for i := range 20 {
			opts.Blobs = append(opts.Blobs, w.local(1000+i))
		}
		opts.BaseURL, opts.Concurrency = busy.URL, most
		require.NoError(t, w.upload(opts))
		assert.Equal(t, most, count(0))
	})
}
