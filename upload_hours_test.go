//go:build !race

// See download_hours_test.go.

package transfer_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// slowBody is the body of a request that passes a link.
type slowBody struct {
	io.ReadCloser
	link *slowLink
	ctx  context.Context
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), 64<<10)])
	b.link.pass(b.ctx, n)
	return n, err
}

// up returns a handler whose requests pass the link.
func (l *slowLink) up(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 0 {
			r.Body = &slowBody{r.Body, l, r.Context()}
		}
		h.ServeHTTP(w, r)
	})
}

// Uploads that last an hour end well with default options.
func TestE2E3E4E5HoursOfAnUploadOnASlowLink(t *testing.T) {
	large := []int{50, 50, 50, 50}
	for name, h := range map[string]hour{
		"E5 lost answers":      {blobs: large, fault: "swallow+stallheaders"},
		"E2 sessions are lost": {blobs: large, fault: "404"},
		"E4 gateway gives up":  {blobs: large, fault: "swallow+504"},
		"E3 bodies break":      {blobs: large, fault: "reset(300K)", concurrency: 2},
		"tokens, all of it":    {blobs: []int{60, 60, 40, 20, 10, 1, 1}, token: 5 * time.Minute, fault: "2*503->reset(200K)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, h.upload)
		})
	}
}

func (h hour) upload(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	link := &slowLink{speed: 64 << 10}
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
