package wire

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Who brings a client for its TLS alone moves bodies as the package's own client does.
func TestClientsThatSetOnlyTLSSendInStrides(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	config := &tls.Config{}
	changed := NewTransport(7)
	changed.TLSClientConfig = config
	for name, c := range map[string]*http.Client{
		"the package's own":               nil,
		"the package's with other TLS":    {Transport: changed},
		"a caller's with nothing but TLS": {Transport: &http.Transport{TLSClientConfig: config}},
	} {
		t.Run(name, func(t *testing.T) {
			client := NewClient(c, "test", 7)
			defer client.Close()
			body := &watched{left: 4 * bodyStride}
			resp, err := client.Send(t.Context(), Request{
				Method: http.MethodPut, Target: mustParse(t, server.URL).Uploads("a", nil),
				Length: body.left, Body: io.NopCloser(body),
			})
			require.NoError(t, err)
			resp.Discard()
			assert.Equal(t, bodyStride, body.longest)
			assert.Equal(t, 7, client.own.MaxIdleConnsPerHost)
		})
	}
}

// What a caller has chosen stays.
func TestTransportOfTheCallerKeepsItsIdleConnections(t *testing.T) {
	for _, most := range []int{-1, 1, 500} {
		c := NewClient(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: most}}, "test", 7)
		assert.Equal(t, most, c.own.MaxIdleConnsPerHost)
	}
}

// watched is a body that remembers how much of it was asked for at once.
type watched struct {
	left    int64
	longest int
}

func (w *watched) Read(p []byte) (int, error) {
	if w.left == 0 {
		return 0, io.EOF
	}
	w.longest = max(w.longest, len(p))
	n := min(w.left, int64(len(p)))
	w.left -= n
	return int(n), nil
}

// How long the dial took is known of the package's own connections, encrypted or not.
func TestConnectionsTellHowLongTheDialTook(t *testing.T) {
	answer := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	plain, encrypted := httptest.NewServer(answer), httptest.NewTLSServer(answer)
	defer plain.Close()
	defer encrypted.Close()
	for _, server := range []*httptest.Server{plain, encrypted} {
		transport := NewTransport(1)
		transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
		took := time.Duration(-1)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { took = DialTime(info.Conn) },
		})
		for range 2 { // the second uses the connection again
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
			require.NoError(t, err)
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Positive(t, took)
			took = -1
		}
		transport.CloseIdleConnections()
	}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	assert.Zero(t, DialTime(here))
}
