package transfer_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// N8: a registry that is known to redirect stalls when it is asked where a blob is.
func TestN8StallWhileItIsAskedWhereABlobIs(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		first, second := w.remote(2000), w.remote(1000)
		w.reg.Fault("GET", second.Digest, "stallheaders")
		opts := w.withToken(w.downloadOptions(first, second))
		opts.Concurrency = 1
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Equal(t, 2, w.gets(second))
		assert.Equal(t, 1, cdn.Count("GET", second.Digest))
		assert.InDelta(t, 10, took.Seconds(), 2)
	})
}

// N7: each byte counts, so that one in less than StallTimeout is enough.
func TestN7TrickleIsNoStall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(12)
		asked := 0
		trickle := w.net.Serve("trickle.test", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			asked++
			for _, one := range w.data(b) {
				_, _ = rw.Write([]byte{one})
				_ = http.NewResponseController(rw).Flush()
				time.Sleep(6 * time.Second)
			}
		}), mode)
		opts := w.downloadOptions(b)
		opts.BaseURL = trickle.URL
		require.NoError(t, w.download(opts))
		assert.Equal(t, 1, asked)
	})
}

func TestN8StallBeforeThereIsAConnection(t *testing.T) {
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"dial": func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"TLS handshake": func(context.Context, string, string) (net.Conn, error) {
			mute, _ := net.Pipe()
			return mute, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1TLS, registrytest.Options{})
				b := w.remote(1000)
				transport := w.net.Transport()
				transport.DialContext = dial
				opts := w.downloadOptions(b)
				opts.Client, opts.StallTimeout = &http.Client{Transport: transport}, 3*time.Second
				took, err := w.timed(opts)
				w.requireExhausted(err, b, transfer.ErrStalled)
				assert.InDelta(t, 6*3+5, took.Seconds(), 3, "six tries, and the waits between them")
				w.requireNothing(b)
			})
		})
	}
}

// N9: a connection far slower than its peers is replaced three times, and then taken for what it is.
// Workers that have nothing else to do take over from it sooner, three times too.
func TestN9FarSlowerThanItsPeers(t *testing.T) {
	for concurrency, most := range map[int]int{5: 4, 64: 7} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				slow := w.remote(2500)
				w.reg.Fault("GET", slow.Digest, "**slow(100)")
				w.reg.Fault("GET", "", "**slow(100K)")
				opts := w.downloadOptions(slow)
				opts.Concurrency, opts.BodyConcurrency = concurrency, concurrency
				for range 4 {
					opts.Blobs = append(opts.Blobs, w.remote(3*mebibyte))
				}
				took, err := w.timed(opts)
				require.NoError(t, err)
				assert.Greater(t, w.gets(slow), 3)
				assert.LessOrEqual(t, w.gets(slow), most)
				assert.Less(t, took, 60*time.Second)
				assert.Zero(t, w.progress.falls)
			})
		})
	}
}

// N9: a body that waited for its turn is not slow for that.
func TestN9WaitingForRoomIsNotSlow(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("GET", "", "**slow(100K)")
		opts := w.downloadOptions()
		opts.BodyConcurrency = 2
		for i := range 20 {
			opts.Blobs = append(opts.Blobs, w.remote(mebibyte+i*100_000))
		}
		require.NoError(t, w.download(opts))
		const helped = 2 // the last two blobs, by idle workers
		assert.LessOrEqual(t, len(w.reg.Requests()), len(opts.Blobs)+helped)
	})
}

// N9: nor is one that waited for what MaxBytesPerSecond leaves it.
func TestN9WaitingForTheCapIsNotSlow(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions()
		opts.MaxBytesPerSecond = 2000
		for i := range 64 {
			opts.Blobs = append(opts.Blobs, w.remote(3000+i))
		}
		require.NoError(t, w.download(opts))
		assert.Len(t, w.reg.Requests(), len(opts.Blobs))
	})
}

// N9: where all are slow it is the link, and no new connection would help.
func TestN9AllAreSlow(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("GET", "", "**slow(10)")
		opts := w.downloadOptions(w.remote(1000), w.remote(900), w.remote(800))
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Len(t, w.reg.Requests(), 3)
		assert.InDelta(t, 100, took.Seconds(), 2)
	})
}
