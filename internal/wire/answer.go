package wire

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

var errContentRange = errors.New("malformed Content-Range")

// ContentRange parses the Content-Range of a 206 (RFC 9110 section 14.4): the
// bytes [start, end) of a representation of size bytes, -1 when that is not told.
func ContentRange(h http.Header) (start, end, size int64, err error) {
	values := h.Values("Content-Range")
	if len(values) != 1 {
		return 0, 0, 0, errContentRange
	}
	unit, spec, _ := strings.Cut(values[0], " ")
	span, total, _ := strings.Cut(spec, "/")
	first, last, _ := strings.Cut(span, "-")
	start, errFirst := decimal(first)
	end, errLast := decimal(last)
	size = -1
	var errSize error
	if total != "*" {
		size, errSize = decimal(total)
	}
	if !strings.EqualFold(unit, "bytes") || errors.Join(errFirst, errLast, errSize) != nil ||
		end < start || end+1 < 0 || size >= 0 && end >= size {
		return 0, 0, 0, errContentRange
	}
	return start, end + 1, size, nil
}

// Coding returns the content coding with which an answer is not a blob of that size, "" where it is. Some
// stores tell the coding of the blob itself, which is compressed (moby#17595): then the length that they tell
// is the blob's, and the digest decides.
func Coding(resp *Response, size int64) string {
	told := resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		_, _, told, _ = ContentRange(resp.Header)
	}
	coding := strings.Join(resp.Header.Values("Content-Encoding"), ", ")
	switch strings.ToLower(coding) {
	case "identity":
		return ""
	case "gzip", "x-gzip":
		if told == size {
			return ""
		}
	}
	return coding
}

// decimal parses 1*DIGIT; strconv alone would take a sign.
func decimal(s string) (int64, error) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, errContentRange
	}
	return strconv.ParseInt(s, 10, 64)
}

// UploadRange returns how many bytes an upload session has (OCI distribution spec, "Pushing a blob in
// chunks"). "0-0" is said of an empty session too, and taken for that.
func UploadRange(h http.Header) (int64, error) {
	value := strings.TrimPrefix(h.Get("Range"), "bytes=")
	first, last, _ := strings.Cut(value, "-")
	end, err := decimal(last)
	if err != nil || first != "0" || end+1 < 0 {
		return 0, errUploadRange
	}
	if end == 0 {
		return 0, nil
	}
	return end + 1, nil
}

var errUploadRange = errors.New("malformed Range of an upload session")

// MinChunk returns the least size of a chunk that a registry asks for, 0 when it does not. One that cannot be
// read is none: a chunk that turns out to be too small is refused, and the blob is sent another way.
func MinChunk(h http.Header) int64 {
	n, err := decimal(h.Get("OCI-Chunk-Min-Length"))
	if err != nil {
		return 0
	}
	return n
}

const signedPrefix = "X-Signed-Header-"

// SignedHeaders returns the headers that a registry wants sent with a body to its object store. An
// error is one that it has no business to choose, such as Host or Cookie.
func SignedHeaders(h http.Header) (http.Header, error) {
	signed := make(http.Header)
	for key, values := range h {
		name, ok := strings.CutPrefix(key, signedPrefix)
		if !ok {
			continue
		}
		if !mayBeSigned(name) || len(values) != 1 {
			return nil, fmt.Errorf("direct upload with the header %.100q is refused", name)
		}
		signed.Set(name, values[0])
	}
	return signed, nil
}

// mayBeSigned is an allow-list: headers about the content, and those of the object stores' own.
func mayBeSigned(name string) bool {
	switch name {
	case "Content-Type", "Content-Md5", "Cache-Control", "Content-Disposition", "If-None-Match":
		return true
	}
	for _, prefix := range []string{"X-Amz-", "X-Goog-", "X-Ms-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
