package registrytest_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// inBubbles runs f in a testing/synctest bubble in every mode.
func inBubbles(t *testing.T, f func(t *testing.T, mode registrytest.Mode)) {
	for _, mode := range registrytest.Modes() {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, mode) })
		})
	}
}

func TestHourLongFaults(t *testing.T) {
	for _, script := range []string{
		"stall(1000)", "stallheaders", "slow(1)", "delay(61m)", "late(61m)", "hinting(1m)",
	} {
		t.Run(script, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				reg := registrytest.New(registrytest.Options{})
				d := reg.Put(repo, content(blobSize))
				s := registrytest.ServeInMemory(t, reg, mode)
				reg.Fault("GET", "", script)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				url := s.URL + "/v2/" + repo + "/blobs/" + d.String()
				req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
				require.NoError(t, err)
				a := send(s.Client, req)
				assert.ErrorIs(t, a.err, context.DeadlineExceeded)
				assert.Equal(t, time.Hour, time.Since(began))
				want := map[string]int{"stall(1000)": 1000, "slow(1)": 3600}
				assert.InDelta(t, want[script], len(a.body), 1)
				reg.Wait()
			})
		})
	}
}

func TestSlowHasItsSpeed(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		reg := registrytest.New(registrytest.Options{Latency: time.Second})
		d := reg.Put(repo, content(1000))
		s := registrytest.ServeInMemory(t, reg, mode)
		cases := map[string]time.Duration{"slow(1)": 1000, "slow(100)": 10, "slow(1K)": 1, "ok": 0}
		for script, want := range cases {
			reg.Fault("GET", "", script)
			began := time.Now()
			a := ask(t, s.Client, "GET", s.URL+"/v2/"+repo+"/blobs/"+d.String(), "")
			require.NoError(t, a.err)
			assert.InDelta(t, float64(want+1), time.Since(began).Seconds(), 0.1, script)
		}
	})
}

func TestSlowUploadHasAFastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUploader(t, registrytest.Options{})
		location := u.open()
		u.reg.Fault("PUT", "", "slow(1)")
		began := time.Now()
		other := location + "&digest=" + digest.FromString("other").String()
		assert.Equal(t, 400, u.ask("PUT", other, "hello").status)
		assert.InDelta(t, 5, time.Since(began).Seconds(), 1)
	})
}

func TestStallBodyForAnHour(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		reg := registrytest.New(registrytest.Options{})
		s := registrytest.ServeInMemory(t, reg, mode)
		open := ask(t, s.Client, "POST", s.URL+"/v2/"+repo+"/blobs/uploads/", "")
		reg.Fault("PATCH", "", "stallbody(1000)")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "PATCH", open.header.Get("Location"),
			&cancelAfter{n: math.MaxInt, cancel: cancel})
		require.NoError(t, err)
		assert.ErrorIs(t, send(s.Client, req).err, context.DeadlineExceeded)
		reg.Wait()
		assert.EqualValues(t, 1000, reg.BytesReceived())
	})
}

func TestBodiesInFlight(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		reg := registrytest.New(registrytest.Options{})
		d := reg.Put(repo, content(1000))
		s := registrytest.ServeInMemory(t, reg, mode)
		reg.Fault("GET", "", "**slow(100)")
		done := make(chan answer)
		for range 5 {
			go func() { done <- ask(t, s.Client, "GET", s.URL+"/v2/"+repo+"/blobs/"+d.String(), "") }()
		}
		time.Sleep(5 * time.Second)
		assert.Equal(t, 5, reg.InFlight())
		for range 5 {
			assert.NoError(t, (<-done).err)
		}
		reg.Wait()
		assert.Equal(t, 0, reg.InFlight())
		assert.Equal(t, 5, reg.MaxInFlight())
	})
}

func TestNetworkNames(t *testing.T) {
	n := registrytest.NewNetwork(t)
	a := registrytest.New(registrytest.Options{})
	b := registrytest.New(registrytest.Options{Token: "x"})
	n.Serve("registry.test", a, registrytest.H1)
	n.Serve("registry.test:5000", b, registrytest.H1)
	n.Serve("[::1]:70", a, registrytest.H1TLS)
	n.Serve("tls.test", a, registrytest.H2)
	c := n.Client()
	for url, status := range map[string]int{
		"http://registry.test/v2/": 200, "http://registry.test:5000/v2/": 401,
		"https://[::1]:70/v2/": 200,
		"https://tls.test/v2/": 200,
	} {
		assert.Equal(t, status, ask(t, c, "GET", url, "").status, url)
	}
	assert.Equal(t, 1, n.Dials("tls.test:443"))

	err := ask(t, c, "GET", "http://elsewhere.test/", "").err
	var dns *net.DNSError
	require.True(t, errors.As(err, &dns))
	assert.True(t, dns.IsNotFound)

	n.Down("registry.test:5000", registrytest.Refused())
	c = n.Client()
	assert.ErrorIs(t, ask(t, c, "GET", "http://registry.test:5000/v2/", "").err, syscall.ECONNREFUSED)
	n.Down("registry.test:5000", nil)
	assert.Equal(t, 401, ask(t, c, "GET", "http://registry.test:5000/v2/", "").status)
}

func TestCloseReleasesStalledClients(t *testing.T) {
	everywhere(t, func(t *testing.T, _ registrytest.Mode, start starter) {
		reg := registrytest.New(registrytest.Options{})
		d := reg.Put(repo, content(blobSize))
		s := start(reg)
		reg.Fault("GET", "", "stall(10)")
		res, err := s.Client.Get(s.URL + "/v2/" + repo + "/blobs/" + d.String())
		require.NoError(t, err)
		defer res.Body.Close()
		s.Close()
		_, err = io.ReadAll(res.Body)
		assert.Error(t, err)
	})
}
