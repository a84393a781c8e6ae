package registrytest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// blobCall is a call about a blob.
type blobCall struct{ *call }

func (c blobCall) serve() {
	d, err := digest.Parse(c.target.ref)
	if err != nil {
		c.fail(http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	data, ok := c.reg.blobOf(c.target.repo, d)
	if !ok {
		c.fail(http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		c.sendBlob(d, data)
	case http.MethodDelete:
		c.reg.Delete(c.target.repo, d)
		c.empty(http.StatusAccepted)
	default:
		c.notAllowed()
	}
}

func (c blobCall) sendBlob(d digest.Digest, data []byte) {
	etag := `"` + d.String() + `"`
	h := c.w.Header()
	h.Set("Docker-Content-Digest", d.String())
	h.Set("ETag", etag)
	if !c.opts.NoRange {
		h.Set("Accept-Ranges", "bytes")
	}
	spec := c.r.Header.Get("Range")
	if match := c.r.Header.Get("If-Range"); match != "" && match != etag {
		spec = ""
	}
	if spec == "" || c.opts.NoRange {
		c.send(http.StatusOK, "application/octet-stream", data)
		return
	}
	c.sendRange(spec, data)
}

func (c blobCall) sendRange(spec string, data []byte) {
	size := int64(len(data))
	first, last, ok := parseRange(spec, size)
	if !ok {
		c.send(http.StatusOK, "application/octet-stream", data)
		return
	}
	if first > last {
		c.w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		c.fail(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "it starts after the end")
		return
	}
	c.w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
	c.send(http.StatusPartialContent, "application/octet-stream", data[first:last+1])
}

// parseRange returns the first and last byte that a Range header asks for, with
// first beyond last where there is none. It is not ok where the header is not a
// single range of bytes, which servers ignore (RFC 9110 section 14.2).
func parseRange(spec string, size int64) (first, last int64, ok bool) {
	spec, ok = strings.CutPrefix(spec, "bytes=")
	from, to, dash := strings.Cut(spec, "-")
	if !ok || !dash {
		return 0, 0, false
	}
	if from == "" {
		n, err := strconv.ParseInt(to, 10, 64)
		if n == 0 {
			return size, size - 1, err == nil
		}
		return max(0, size-n), size - 1, err == nil && n > 0
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil || first < 0 {
		return 0, 0, false
	}
	if to == "" {
		return first, size - 1, true
	}
	last, err = strconv.ParseInt(to, 10, 64)
	if err != nil || last < first {
		return 0, 0, false
	}
	return first, min(last, size-1), true
}
