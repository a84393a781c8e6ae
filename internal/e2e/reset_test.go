package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPushThroughAProxyThatResets(t *testing.T) {
	const size = 400 * mib
	s := newDistribution(t).serve(t)
	p := newResetter(t, s, between(7, mib, 50*mib))
	src := t.TempDir()
	large := addStream(t, src, 1, size)
	blobs := append(addBlobs(t, src, 2, 10, 70_000, 70_001, 3*mib), large)
	opts := upload(s, src, blobs)
	opts.BaseURL = p.url
	push(t, opts)

	sent := p.forwarded.Load()
	t.Logf("%d resets, %d bytes sent for %d: %.3f",
		p.resets.Load(), sent, sumOf(blobs), float64(sent)/float64(sumOf(blobs)))
	assert.Greater(t, p.resets.Load(), int64(4))
	assert.LessOrEqual(t, sent, sumOf(blobs)+3*sumOf(blobs)/10)
	peer := newPeer(t, s, repository)
	for _, b := range blobs {
		peer.requireBlob(t, src, b)
	}
}

// TestHarnessCutBody shows that distribution keeps what it got of a request that was cut,
// and tells how much.
func TestHarnessCutBody(t *testing.T) {
	const size, cut = 20 * mib, 8 * mib
	for _, method := range []string{http.MethodPut, http.MethodPatch} {
		t.Run(method, func(t *testing.T) {
			s := newDistribution(t).serve(t)
			p := newResetter(t, s, func() int64 { return cut })
			content := randomBytes(t, 1, size)
			session := startSession(t, s)
			through, err := url.Parse(p.url)
			require.NoError(t, err)
			through.Path, through.RawQuery = session.Path, session.RawQuery

			_, err = request(t, method, through, content)
			require.Error(t, err)
			e := s.seen(kind(kindUpload))[1]
			assert.Less(t, e.received, int64(cut))
			assert.Greater(t, e.received, int64(0))
			resp, err := request(t, http.MethodGet, session, nil)
			require.NoError(t, err)
			assert.Equal(t, http.StatusNoContent, resp.StatusCode)
			assert.Equal(t, fmt.Sprintf("0-%d", e.received-1), resp.Header.Get("Range"))
		})
	}
}

// startSession begins an upload without the library.
func startSession(t testing.TB, s *server) *url.URL {
	t.Helper()
	u, err := url.Parse(s.url + "/v2/" + repository + "/blobs/uploads/")
	require.NoError(t, err)
	resp, err := request(t, http.MethodPost, u, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	session, err := resp.Location()
	require.NoError(t, err)
	return session
}

// request makes one without the library, and reads the answer.
func request(t testing.TB, method string, u *url.URL, body []byte) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, u.String(), bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/octet-stream")
	query := u.Query()
	if method == http.MethodPut {
		query.Set("digest", "sha256:"+string(bytes.Repeat([]byte("0"), 64)))
	}
	req.URL.RawQuery = query.Encode()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}
