package wire

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestN12ContentRange(t *testing.T) {
	for value, want := range map[string][3]int64{
		"bytes 0-0/1":   {0, 1, 1},
		"bytes 5-9/10":  {5, 10, 10},
		"bytes 5-9/*":   {5, 10, -1},
		"Bytes 0-9/100": {0, 10, 100},
	} {
		start, end, size, err := ContentRange(http.Header{"Content-Range": {value}})
		require.NoError(t, err, value)
		assert.Equal(t, want, [3]int64{start, end, size}, value)
	}
	for _, value := range []string{
		"", "bytes", "bytes */10", "bytes 5-4/10", "bytes 0-10/10", "bytes -1-4/10", "bytes 0-+4/10",
		"items 0-1/2", "bytes 0-1", "bytes 0-1/", "bytes 0 - 1/2", "bytes 0-1/2/3", "bytes 0-1/-5",
		"bytes 0-9223372036854775807/*", "bytes 0-9223372036854775808/*",
	} {
		_, _, _, err := ContentRange(http.Header{"Content-Range": {value}})
		assert.Error(t, err, "%q", value)
	}
	_, _, _, err := ContentRange(http.Header{"Content-Range": {"bytes 0-1/2", "bytes 0-1/2"}})
	assert.Error(t, err, "doubled")
	_, _, _, err = ContentRange(http.Header{})
	assert.Error(t, err, "absent")
}

func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{
		"bytes 0-0/1", "bytes 5-9/*", "bytes */10", "bytes 9223372036854775806-9223372036854775807/*",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		start, end, size, err := ContentRange(http.Header{"Content-Range": {value}})
		if err != nil {
			return
		}
		require.True(t, 0 <= start && start < end, "%d %d", start, end)
		require.True(t, size == -1 || end <= size, "%d %d", end, size)
	})
}

func TestU12SignedHeaders(t *testing.T) {
	for _, name := range []string{
		"Content-Type", "Content-Md5", "Cache-Control", "Content-Disposition", "If-None-Match",
		"X-Amz-Checksum-Sha256", "X-Goog-Hash", "X-Ms-Blob-Type",
	} {
		signed, err := SignedHeaders(http.Header{"X-Signed-Header-" + name: {"x"}, "Date": {"now"}})
		require.NoError(t, err, name)
		assert.Equal(t, http.Header{name: {"x"}}, signed)
	}
	for _, name := range []string{
		"Host", "Authorization", "Cookie", "Proxy-Authorization", "Content-Length", "Transfer-Encoding",
		"Connection", "Expect", "Range", "Content-Encoding", "Amz",
	} {
		_, err := SignedHeaders(http.Header{"X-Signed-Header-" + name: {"x"}})
		assert.Error(t, err, name)
	}
	for _, values := range [][]string{{"a", "b"}, {}} {
		_, err := SignedHeaders(http.Header{"X-Signed-Header-Content-Type": values})
		assert.Error(t, err, "%q", values)
	}
}
