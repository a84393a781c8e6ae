package registrytest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestReadAndLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := registrytest.New(registrytest.Options{})
		s := registrytest.ServeInMemory(t, reg, registrytest.H1)
		reg.Fault("PUT", "", "read+late(2s)+504->late(3s)")
		for _, want := range []struct {
			status int
			wait   time.Duration
			bytes  int64
		}{{504, 2 * time.Second, 5}, {404, 3 * time.Second, 0}} {
			began := time.Now()
			before := reg.BytesReceived()
			a := ask(t, s.Client, "PUT", s.URL+"/v2/"+repo+"/blobs/uploads/x", "hello")
			assert.Equal(t, want.status, a.status)
			assert.Equal(t, want.wait, time.Since(began))
			assert.Equal(t, want.bytes, reg.BytesReceived()-before)
		}
	})
}

func TestCutPatchKeepsWhatArrived(t *testing.T) {
	text := strings.Repeat("0123456789", 10_000)
	for script, kept := range map[string]int{
		"reset(40000)": 40000, "cut(40000)": 40000, "reset(0)": 0, "cut(1G)": len(text),
	} {
		t.Run(script, func(t *testing.T) {
			everywhere(t, func(t *testing.T, mode registrytest.Mode, start starter) {
				reg := registrytest.New(registrytest.Options{
					Sessions: registrytest.Sessions{StrictState: true},
				})
				s := start(reg)
				reg.Fault("PATCH", "", script)
				open := ask(t, s.Client, "POST", s.URL+"/v2/"+repo+"/blobs/uploads/", "")
				location := open.header.Get("Location")
				require.Error(t, ask(t, s.Client, "PATCH", location, text).err)
				reg.Wait()

				a := ask(t, s.Client, "GET", location, "")
				require.Equal(t, 204, a.status)
				require.Equal(t, fmt.Sprintf("0-%d", max(0, kept-1)), a.header.Get("Range"))
				d := digest.FromString(text)
				a = ask(t, s.Client, "PUT", location+"&digest="+d.String(), text[kept:])
				require.NoError(t, a.err)
				assert.Equal(t, 201, a.status)
				assert.True(t, reg.Has(repo, d))
			})
		})
	}
}

func TestResetUploadLooksLikeOne(t *testing.T) {
	// Over sockets the client may see its own failed write first, so only the
	// connection in memory tells for sure.
	reg := registrytest.New(registrytest.Options{})
	s := registrytest.ServeInMemory(t, reg, registrytest.H1)
	reg.Fault("POST", "", "reset(10)")
	a := ask(t, s.Client, "POST", s.URL+"/v2/"+repo+"/blobs/uploads/?digest=x", strings.Repeat("x", 1<<20))
	assert.True(t, isReset(a.err), "%v", a.err)
}

func TestSwallow(t *testing.T) {
	cases := map[string]int{"swallow": 500, "swallow+504": 504, "swallow+reset": 0, "swallow+hangup": 0}
	for script, status := range cases {
		t.Run(script, func(t *testing.T) {
			everywhere(t, func(t *testing.T, _ registrytest.Mode, start starter) {
				reg := registrytest.New(registrytest.Options{})
				s := start(reg)
				reg.Fault("PUT", "digest=", script)
				open := ask(t, s.Client, "POST", s.URL+"/v2/"+repo+"/blobs/uploads/", "")
				d := digest.FromString("hello")
				a := ask(t, s.Client, "PUT", open.header.Get("Location")+"&digest="+d.String(), "hello")
				assert.Equal(t, status, a.status)
				assert.Equal(t, status == 0, a.err != nil)
				assert.True(t, reg.Has(repo, d))
			})
		})
	}
}

func TestFlippedUploadIsRefused(t *testing.T) {
	u := newUploader(t, registrytest.Options{})
	u.reg.Fault("PUT", "", "flip(2)+slow(1K)")
	d := digest.FromString("hello")
	assert.Equal(t, 400, u.ask("PUT", u.open()+"&digest="+d.String(), "hello").status)
	assert.Equal(t, 201, u.ask("PUT", u.open()+"&digest="+d.String(), "hello").status)
}

func TestStatusOnUploadReadsNoBody(t *testing.T) {
	u := newUploader(t, registrytest.Options{})
	u.reg.Fault("PUT", "", "201")
	d := digest.FromString("hello")
	assert.Equal(t, 201, u.ask("PUT", u.open()+"&digest="+d.String(), "hello").status)
	assert.False(t, u.reg.Has(repo, d))
	assert.Zero(t, u.reg.BytesReceived())
}

func TestStallBody(t *testing.T) {
	everywhere(t, func(t *testing.T, _ registrytest.Mode, start starter) {
		reg := registrytest.New(registrytest.Options{})
		s := start(reg)
		reg.Fault("PATCH", "", "stallbody(1000)")
		open := ask(t, s.Client, "POST", s.URL+"/v2/"+repo+"/blobs/uploads/", "")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		body := &cancelAfter{n: 2000, cancel: cancel}
		req, err := http.NewRequestWithContext(ctx, "PATCH", open.header.Get("Location"), body)
		require.NoError(t, err)
		assert.ErrorIs(t, send(s.Client, req).err, context.Canceled)
		s.Close() // over a socket nothing else tells the handler
		reg.Wait()
		assert.LessOrEqual(t, reg.BytesReceived(), int64(1000))
	})
}

// cancelAfter is an endless body that cancels its request after n bytes.
type cancelAfter struct {
	n      int
	cancel func()
}

func (c *cancelAfter) Read(p []byte) (int, error) {
	if c.n -= len(p); c.n <= 0 {
		c.cancel()
	}
	return len(p), nil
}
