package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
)

// Limits of what is read and kept of an error answer, to keep a server from filling
// memory or a log.
const (
	maxErrorBody    = 64 << 10 // bytes
	maxErrors       = 8
	maxErrorMessage = 256 // bytes
)

// RegistryError is one error of an error answer (OCI distribution spec, "Error Codes").
type RegistryError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// ReadErrors reads the errors that the body of an error answer tells, and all digests
// that are named in it, and closes it. A body of another form has no errors.
func ReadErrors(body io.ReadCloser) (errs []RegistryError, digests []digest.Digest) {
	defer body.Close()
	data, _ := io.ReadAll(io.LimitReader(body, maxErrorBody))
	var answer struct {
		Errors []RegistryError `json:"errors"`
	}
	for _, d := range digest.DigestRegexp.FindAll(data, -1) {
		digests = append(digests, digest.Digest(d))
	}
	if json.Unmarshal(data, &answer) != nil {
		return nil, digests
	}
	errs = answer.Errors[:min(len(answer.Errors), maxErrors)]
	for i := range errs {
		errs[i] = RegistryError{Code: printable(errs[i].Code), Message: printable(errs[i].Message)}
	}
	return errs, digests
}

func printable(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxErrorMessage)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

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

// MinChunk returns the least size of a chunk that a registry asks for, 0 when it does not.
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
