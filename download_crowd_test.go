package transfer_test

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// crowd serves blobs from far away, to all bodies at once no more than speed bytes a second. With more than
// enough bodies, that falls with the square of their number.
type crowd struct {
	data          func(path string) []byte
	speed, enough int
	noRanges      bool

	mu        sync.Mutex // guards the fields that follow
	now, most int        // bodies
	sent      int        // bytes
	calm      time.Time  // since when there were never more than enough
}

func (c *crowd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(50 * time.Millisecond)
	if c.noRanges {
		data := c.data(r.URL.Path)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		(&crowded{w, c}).Write(data)
		return
	}
	http.ServeContent(&crowded{w, c}, r, "", time.Time{}, bytes.NewReader(c.data(r.URL.Path)))
}

// crowded is the body for one of the crowd.
type crowded struct {
	http.ResponseWriter
	*crowd
}

func (w *crowded) Write(p []byte) (n int, err error) {
	w.count(1, 0)
	defer func() { w.count(-1, n) }()
	const portion = 8 << 10
	for err == nil && n < len(p) {
		time.Sleep(w.delay(portion))
		var m int
		m, err = w.ResponseWriter.Write(p[n:min(n+portion, len(p))])
		n += m
	}
	return n, err
}

func (c *crowd) count(bodies, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += bodies
	c.most = max(c.most, c.now)
	c.sent += bytes
}

// delay returns how long a body takes now for so many bytes.
func (c *crowd) delay(bytes int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	excess := max(1, float64(c.now)/float64(c.enough))
	if excess > 1 {
		c.calm = time.Now()
	}
	return time.Duration(float64(bytes*c.now) * excess * excess / float64(c.speed) * float64(time.Second))
}

// A far server gets many bodies at once. Where that is more than it can stand, they are called back.
func TestBodiesThatAreTooManyAreCalledBack(t *testing.T) {
	for _, count := range []int{1, 32} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				opts := w.downloadOptions()
				byPath := make(map[string][]byte)
				for i := range count {
					b := w.remote(96*mebibyte/count + i)
					byPath["/v2/"+repository+"/blobs/"+b.Digest] = w.data(b)
					opts.Blobs = append(opts.Blobs, b)
				}
				c := &crowd{data: func(path string) []byte { return byPath[path] }, speed: 16 * mebibyte, enough: 16}
				opts.BaseURL = w.net.Serve("crowd.test", c, registrytest.H1).URL
				begin := time.Now()
				took, err := w.timed(opts)
				require.NoError(t, err)
				assert.Greater(t, c.most, 32)
				assert.Less(t, c.calm.Sub(begin), 10*time.Second)
				assert.Less(t, took, 14*time.Second, "it is 28 s where they go on")
				assert.Less(t, c.sent, 97*mebibyte, "little is fetched again")
			})
		})
	}
}

// All that a body has brought would be fetched again where the server serves no ranges.
func TestBodiesAreNotCalledBackWhereNoRangesAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		opts := w.downloadOptions()
		byPath := make(map[string][]byte)
		total := 0
		for i := range 64 {
			b := w.remote(3*mebibyte/2 + i)
			byPath["/v2/"+repository+"/blobs/"+b.Digest] = w.data(b)
			opts.Blobs = append(opts.Blobs, b)
			total += 3*mebibyte/2 + i
		}
		c := &crowd{
			data: func(path string) []byte { return byPath[path] }, speed: 16 * mebibyte, enough: 16, noRanges: true,
		}
		opts.BaseURL = w.net.Serve("crowd.test", c, registrytest.H1).URL
		_, err := w.timed(opts)
		require.NoError(t, err)
		synctest.Wait() // for the last body to be counted
		assert.Greater(t, c.most, 32)
		assert.Equal(t, total, c.sent)
	})
}
