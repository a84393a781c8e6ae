//go:build !race

// Hours of virtual time on a slow link cost ten times as much with the race detector, which sees the same
// code in all other tests.

package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// hour is a download of an hour over a slow link. What a blob waits for its turn is as long as with sixteen
// times the bytes over a link of 512 KiB/s.
type hour struct {
	blobs       []int // sizes in MiB
	concurrency int
	signedFor   time.Duration // the registry leads to a store with signed URLs
	token       time.Duration // a token is good for so long
	away        bool          // the token server is away for a minute of each ten
	fault       string        // every ten minutes
	nodes       []func(*registrytest.Options)
	mirror      string // script of a mirror that has all
}

// hourSpeed is what such a link carries in a second.
const hourSpeed = 32 << 10

// Downloads that last an hour end well with default options, whatever waits for its turn meanwhile.
func TestE1HoursOnASlowLink(t *testing.T) {
	for name, h := range hours() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, h.run)
		})
	}
}

func hours() map[string]hour {
	large := []int{34, 34, 34}
	return map[string]hour{
		"many large":       {blobs: []int{34, 17, 17, 17, 17}},
		"two workers, 503": {blobs: []int{68, 34}, concurrency: 2, fault: "503"},
		"signed URLs":      {blobs: large, signedFor: 2 * time.Minute},
		"signed URLs, reset": {blobs: large, signedFor: 2 * time.Minute, fault: "reset(300K)",
			concurrency: 2},
		"tokens":            {blobs: large, token: 5 * time.Minute},
		"token server away": {blobs: large, token: 5 * time.Minute, away: true, fault: "eof(500K)"},
		"stalls":            {blobs: large, fault: "stall(1M)"},
		"large and small":   {blobs: append([]int{60}, small(42)...), fault: "502", concurrency: 4},
		"nodes": {blobs: large, fault: "416", nodes: []func(*registrytest.Options){
			func(o *registrytest.Options) { o.SignedFor = 2 * time.Minute }, func(*registrytest.Options) {},
			func(o *registrytest.Options) { o.Latency = 2 * time.Second },
		}},
		"a mirror that comes and goes": {blobs: large, fault: "429(retry-after: 60)",
			mirror: "20*ok->10*503->20*ok->429(retry-after: 120)->10*ok->8*reset->**ok"},
		"all of it": {blobs: []int{34, 34, 20, 10, 1, 1, 1}, signedFor: 2 * time.Minute,
			token: 5 * time.Minute,
			away:  true, fault: "2*503->reset(200K)"},
	}
}

func small(n int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = 1
	}
	return sizes
}

func (h hour) run(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	link := &slowLink{speed: hourSpeed}
	opts := w.downloadOptions()
	total := int64(0)
	for i, size := range h.blobs {
		b := w.remote(size*mebibyte + i)
		opts.Blobs, total = append(opts.Blobs, b), total+b.Size
	}
	opts.Concurrency = h.concurrency
	opts.BaseURL = w.net.Serve("slow.test", link.over(h.registry(w, link)), registrytest.H1).URL
	h.authorize(w, &opts)
	if h.mirror != "" {
		mirror := registrytest.New(registrytest.Options{})
		for _, b := range opts.Blobs {
			mirror.Put(repository, w.data(b))
		}
		mirror.Fault("GET", "", h.mirror)
		opts.Mirrors = []string{w.net.Serve("mirror.test", link.over(mirror), registrytest.H1).URL}
	}
	defer every(10*time.Minute, func() {
		if h.fault != "" {
			w.reg.Fault("GET", "/blobs/", h.fault)
		}
	})()
	took, err := w.timed(opts)
	require.NoError(t, err)
	needed := time.Duration(total) * time.Second / time.Duration(link.speed)
	t.Logf("%v, the link alone needs %v", took, needed)
	assert.Greater(t, took, 50*time.Minute)
	assert.Less(t, took, needed*13/10)
}

// registry returns what serves the blobs: the registry of the world or, where there are nodes, one of them in
// turn.
func (h hour) registry(w *world, link *slowLink) http.Handler {
	if h.signedFor > 0 {
		w.redirectDownloads(w.net.Serve("store.test", link.over(w.reg.CDN()), registrytest.H1).URL)
		w.reg.Configure(func(o *registrytest.Options) { o.SignedFor = h.signedFor })
	}
	if h.nodes == nil {
		return w.reg
	}
	nodes := []http.Handler{w.reg}
	for i, change := range h.nodes {
		node := registrytest.New(registrytest.Options{})
		for dg, data := range w.content {
			node.Replace(repository, dg, data)
		}
		store := w.net.Serve(fmt.Sprintf("store-%d.test", i), link.over(node.CDN()), registrytest.H1)
		node.Configure(func(o *registrytest.Options) { o.Redirect = registrytest.To(store.URL) })
		node.Configure(change)
		nodes = append(nodes, node)
	}
	var turn atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nodes[turn.Add(1)%int64(len(nodes))].ServeHTTP(w, r)
	})
}

// authorize has the registry want a token that is good for a while.
func (h hour) authorize(w *world, opts *transfer.DownloadOptions) {
	if h.token == 0 {
		return
	}
	begun := time.Now()
	w.reg.Configure(func(o *registrytest.Options) {
		o.CheckToken = func(r *http.Request) bool {
			_, at, _ := strings.Cut(r.Header.Get("Authorization"), "Bearer ")
			issued, err := time.ParseDuration(at)
			return err == nil && time.Since(begun)-issued < h.token
		}
	})
	opts.GetToken = func(context.Context, transfer.AuthChallenge) (string, error) {
		now := time.Since(begun)
		if h.away && now%(10*time.Minute) > 9*time.Minute {
			return "", errAway
		}
		return now.String(), nil
	}
}

// errAway is what GetToken says while the token server is away.
var errAway = awayError{errors.New("token server is away")}

type awayError struct{ error }

func (awayError) Temporary() bool { return true }

// every does something again and again until it is stopped.
func every(period time.Duration, do func()) (stop func()) {
	ticker, done := time.NewTicker(period), make(chan struct{})
	go func() {
		for {
			select {
			case <-ticker.C:
				do()
			case <-done:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
	}
}

// Uploads that last an hour end well with default options.
func TestE2E3E4E5HoursOfAnUploadOnASlowLink(t *testing.T) {
	large := []int{34, 34, 34}
	for name, h := range map[string]hour{
		"E5 lost answers":      {blobs: large, fault: "swallow+stallheaders"},
		"E2 sessions are lost": {blobs: large, fault: "404"},
		"E4 gateway gives up":  {blobs: large, fault: "swallow+504"},
		"E3 bodies break":      {blobs: large, fault: "reset(300K)", concurrency: 2},
		"tokens, all of it": {blobs: []int{34, 34, 20, 10, 1, 1, 1}, token: 5 * time.Minute,
			fault: "2*503->reset(200K)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, h.upload)
		})
	}
}

func (h hour) upload(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	link := &slowLink{speed: hourSpeed}
	opts := w.uploadOptions()
	for i, size := range h.blobs {
		opts.Blobs = append(opts.Blobs, w.local(size*mebibyte+i))
	}
	opts.Concurrency = h.concurrency
	opts.BaseURL = w.net.Serve("slow.test", link.up(w.reg), registrytest.H1).URL
	d := transfer.DownloadOptions{}
	h.authorize(w, &d)
	opts.GetToken = d.GetToken
	defer every(10*time.Minute, func() {
		w.reg.Fault("PATCH", "", h.fault)
		w.reg.Fault("PUT", "", h.fault)
	})()
	begun := time.Now()
	require.NoError(t, w.upload(opts))
	for _, b := range opts.Blobs {
		assert.True(t, w.reg.Has(repository, digest.Digest(b.Digest)))
	}
	assert.Greater(t, time.Since(begun), 50*time.Minute)
}
