package transfer_test

import (
	"context"
	"io"
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

// Bodies that share a slow link are silent for longer than the options allow for, though bytes flow all the
// time: that is no stall, and spends nobody's budget.
func TestE19UploadsThatShareASlowLink(t *testing.T) {
	type test struct {
		count, size int
		opts        registrytest.Options
		strides     bool // bodies are sent as the package's own transport does
		hides       bool // what has reached the peer cannot be seen
	}
	cases := map[string]test{
		"POST":       {8, mebibyte, registrytest.Options{SingleShot: true}, false, false},
		"PUT":        {8, mebibyte, registrytest.Options{}, false, false},
		"PUT, large": {3, 9 * mebibyte, registrytest.Options{}, true, false},
		"PATCH":      {4, 3 * mebibyte, registrytest.Options{MaxBody: mebibyte}, true, false},
		"strides":    {12, mebibyte, registrytest.Options{SingleShot: true}, true, false},
		"hidden":     {8, mebibyte, registrytest.Options{}, false, true},
		"many small": {40, 128 << 10, registrytest.Options{SingleShot: true}, true, false},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		w := newWorld(t, mode, c.opts)
		link := &slowLink{speed: 64 << 10, portion: 4 << 10}
		transport := w.client.Transport.(*http.Transport)
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			switch {
			case c.strides:
				conn = strideConn{conn}
			case c.hides:
				conn = struct{ net.Conn }{conn}
			}
			return conn, err
		}
		opts := w.uploadOptions()
		total := 0
		if mode == registrytest.H2 && c.strides && c.size == mebibyte {
			c.count = 8 // streams take turns at random: of twelve, one may wait for too long
		}
		for i := range c.count {
			opts.Blobs = append(opts.Blobs, w.local(c.size+i))
			total += c.size + i
		}
		opts.BaseURL = w.net.Serve("slow.test", link.up(w.reg), mode).URL
		opts.StallTimeout, opts.RetryTimeout = 3*time.Second, 5*time.Second
		if mode == registrytest.H2 { // whose server takes the first MiB at once, and is silent for 16 s
			opts.StallTimeout, opts.RetryTimeout = 10*time.Second, 20*time.Second
		}
		begun := time.Now()
		require.NoError(t, w.upload(opts))
		needed := time.Duration(total) * time.Second / time.Duration(link.speed)
		t.Logf("%v, the link alone needs %v", time.Since(begun), needed)
		assert.Less(t, time.Since(begun), needed*13/10)
	})
}

// strideConn is a connection that sends bodies as those of the package's own transport do.
type strideConn struct{ net.Conn }

func (c strideConn) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, make([]byte, 128<<10))
}

func (c strideConn) Drained() int64 { return c.Conn.(interface{ Drained() int64 }).Drained() }

// Bytes that are sent again are no new ones, but while they move nobody is idle. An HTTP/2 server would take
// them at once.
func TestE19BytesThatAreSentAgainSpendNoBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		link := &slowLink{speed: 256 << 10, portion: 4 << 10}
		opts := w.uploadOptions(w.local(mebibyte + 1))
		opts.BaseURL = w.net.Serve("slow.test", link.up(w.reg), registrytest.H1).URL
		opts.StallTimeout, opts.RetryTimeout = 5*time.Second, 3*time.Second
		fault := w.reg.Fault("PUT", "/uploads/", "2*reset(1000K)")
		require.NoError(t, w.upload(opts))
		assert.True(t, fault.Done())
	})
}

// But a blob that is sent again and again in vain comes to an end.
func TestE19BytesThatAreSentAgainInVainSpendTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		link := &slowLink{speed: 16 << 10, portion: 4 << 10}
		b := w.local(mebibyte + 1)
		opts := w.uploadOptions(b)
		opts.BaseURL = w.net.Serve("slow.test", link.up(w.reg), registrytest.H1).URL
		opts.StallTimeout, opts.RetryTimeout = 5*time.Second, time.Minute
		w.reg.Fault("PUT", "/uploads/", "100*reset(1000K)")
		w.reg.Fault("PATCH", "/uploads/", "100*405")
		require.ErrorIs(t, w.upload(opts), transfer.ErrRetriesExhausted)
		assert.LessOrEqual(t, w.reg.Count("PUT", "/uploads/"), 5)
	})
}

// The same for downloads.
func TestE19DownloadsThatShareASlowLink(t *testing.T) {
	type test struct{ count, size int }
	cases := map[string]test{"medium": {12, mebibyte}, "large": {3, 9 * mebibyte}}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		downloadOverASlowLink(t, mode, 4<<10, c.count, c.size)
	})
}

// Nobody takes over a small blob whose first byte waits for the link, or that has not had its share of it
// yet. An HTTP/2 server holds back 4 KiB of each answer: with such portions nothing would come for long.
func TestE19ManySmallDownloadsThatShareASlowLink(t *testing.T) {
	cases := map[string]int{"4 KiB": 4<<10 + 1, "8 KiB": 8 << 10, "16 KiB": 16 << 10} // portions
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, portion int) {
		downloadOverASlowLink(t, mode, portion, 100, 64<<10)
	})
}

func downloadOverASlowLink(t *testing.T, mode registrytest.Mode, portion, count, size int) {
	w := newWorld(t, mode, registrytest.Options{})
	link := &slowLink{speed: 64 << 10, portion: portion}
	opts := w.downloadOptions()
	total := 0
	for i := range count {
		opts.Blobs = append(opts.Blobs, w.remote(size+i))
		total += size + i
	}
	opts.BaseURL = w.net.Serve("slow.test", link.over(w.reg), mode).URL
	opts.StallTimeout, opts.RetryTimeout = 3*time.Second, 5*time.Second
	begun := time.Now()
	require.NoError(t, w.download(opts))
	needed := time.Duration(total) * time.Second / time.Duration(link.speed)
	t.Logf("%v, the link alone needs %v", time.Since(begun), needed)
	assert.Less(t, time.Since(begun), needed*13/10)
}
