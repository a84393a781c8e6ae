package wire

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestN12ContentRange(t *testing.T) {
	for value, want := range map[string][3]int64{
		"bytes 0-0/1": {0, 1, 1}, "bytes 5-9/10": {5, 10, 10}, "bytes 5-9/*": {5, 10, -1}, "Bytes 0-9/100": {0, 10, 100},
	} {
		start, end, size, err := ContentRange(http.Header{"Content-Range": {value}})
		require.NoError(t, err, value)
		assert.Equal(t, want, [3]int64{start, end, size}, value)
	}
	for _, value := range []string{
		"", "bytes", "bytes */10", "bytes 5-4/10", "bytes 0-10/10", "bytes -1-4/10", "bytes 0-+4/10", "items 0-1/2", "bytes 0-1", "bytes 0-1/",
		"bytes 0-9223372036854775807/*", "bytes 0-9223372036854775808/*", "bytes 0 - 1/2", "bytes 0-1/2/3", "bytes 0-1/-5",
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
	for _, seed := range []string{"bytes 0-0/1", "bytes 5-9/*", "bytes */10", "bytes 9223372036854775806-9223372036854775807/*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		start, end, size, err := ContentRange(http.Header{"Content-Range": {value}})
		if err != nil {
			return
		}
		require.True(t, 0 <= start && start < end && (size == -1 || end <= size), "%d %d %d", start, end, size)
	})
}

// countingBody is an endless body that knows how much of it was read.
type countingBody struct {
	read   int
	closed bool
}

func (b *countingBody) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	b.read += len(p)
	return len(p), nil
}

func (b *countingBody) Close() error { b.closed = true; return nil }

func TestI13EndlessErrorBodyIsNotRead(t *testing.T) {
	body := &countingBody{}
	errs, _ := ReadErrors(body)
	assert.Empty(t, errs)
	assert.LessOrEqual(t, body.read, 2*maxErrorBody)
	assert.True(t, body.closed)
}

func TestReadErrors(t *testing.T) {
	read := func(s string) []RegistryError {
		errs, _ := ReadErrors(io.NopCloser(strings.NewReader(s)))
		return errs
	}
	assert.Equal(t, []RegistryError{{"DENIED", "no"}}, read(`{"errors":[{"code":"DENIED","message":"no","detail":{"x":1}}]}`))
	assert.Equal(t, []RegistryError{{"A B", "line  two"}}, read(`{"errors":[{"code":"A\u0007B","message":"line\n\u001btwo"}]}`))
	assert.Empty(t, read(`<html>`))
	assert.Empty(t, read(``))
	assert.Len(t, read(`{"errors":[`+strings.Repeat(`{"code":"A"},`, 100)+`{"code":"A"}]}`), maxErrors)
	long := read(`{"errors":[{"code":"A","message":"` + strings.Repeat("é", 1000) + `"}]}`)
	assert.LessOrEqual(t, len(long[0].Message), maxErrorMessage)
}

func TestReadErrorsFindsTheDigestsNamed(t *testing.T) {
	dg := digest.FromString("x")
	_, named := ReadErrors(io.NopCloser(strings.NewReader(`{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","detail":{"Digest":"` + dg.String() + `"}}]}`)))
	assert.Equal(t, []digest.Digest{dg}, named)
}

func TestU12SignedHeaders(t *testing.T) {
	for _, name := range []string{
		"Content-Type", "Content-Md5", "Cache-Control", "Content-Disposition", "If-None-Match", "X-Amz-Checksum-Sha256", "X-Goog-Hash", "X-Ms-Blob-Type",
	} {
		signed, err := SignedHeaders(http.Header{"X-Signed-Header-" + name: {"x"}, "Date": {"now"}})
		require.NoError(t, err, name)
		assert.Equal(t, http.Header{name: {"x"}}, signed)
	}
	for _, name := range []string{
		"Host", "Authorization", "Cookie", "Proxy-Authorization", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Range", "Content-Encoding", "Amz",
	} {
		_, err := SignedHeaders(http.Header{"X-Signed-Header-" + name: {"x"}})
		assert.Error(t, err, name)
	}
	for _, values := range [][]string{{"a", "b"}, {}} {
		_, err := SignedHeaders(http.Header{"X-Signed-Header-Content-Type": values})
		assert.Error(t, err, "%q", values)
	}
}
