package registry

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const (
	// Blobs up to keepSize are kept in memory, as long as they are keepTotal together:
	// opening a file costs more than sending them.
	keepSize  = 1 << 20   // 1 MiB
	keepTotal = 512 << 20 // 512 MiB
)

// blobs is a directory of blobs.
type blobs struct {
	dir string

	mu   sync.RWMutex // guards the fields that follow
	kept map[string][]byte
	size int64
}

func newBlobs(dir string) *blobs { return &blobs{dir: dir, kept: make(map[string][]byte)} }

// get returns a small blob, or else its file, which the caller must close.
func (b *blobs) get(dg string) (data []byte, file *os.File, size int64, err error) {
	b.mu.RLock()
	data, ok := b.kept[dg]
	b.mu.RUnlock()
	if ok {
		return data, nil, int64(len(data)), nil
	}
	path := filepath.Join(b.dir, filepath.Base(strings.Replace(dg, ":", "-", 1)))
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, 0, err
	}
	if fi.Size() > keepSize {
		file, err = os.Open(path)
		return nil, file, fi.Size(), err
	}
	if data, err = os.ReadFile(path); err == nil {
		b.keep(dg, data)
	}
	return data, nil, int64(len(data)), err
}

// keep remembers a small blob while there is space.
func (b *blobs) keep(dg string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.kept[dg]; !ok && b.size+int64(len(data)) <= keepTotal {
		b.kept[dg] = data
		b.size += int64(len(data))
	}
}

// blob answers GET and HEAD of a blob.
func (c *conn) blob(req *http.Request, dg string) reply {
	if c.knobs.Empty {
		return c.uploads.head(req, dg)
	}
	data, file, size, err := c.server.blobs.get(dg)
	if err != nil {
		return failure(http.StatusNotFound, "BLOB_UNKNOWN")
	}
	r := reply{status: http.StatusOK, blob: dg, size: size, length: size, data: data, file: file,
		header: []string{"Content-Type", "application/octet-stream", "Docker-Content-Digest", dg,
			"ETag", strconv.Quote(dg), "Accept-Ranges", "bytes"}}
	start, end, ranged := parseRange(req.Header.Get("Range"), size)
	if !ranged {
		return r
	}
	return r.part(start, end)
}

// part is the reply for a range of the blob, which is empty where the range cannot be served.
func (r reply) part(start, end int64) reply {
	if start >= end {
		r.status, r.length, r.data = http.StatusRequestedRangeNotSatisfiable, 0, nil
		r.header = append(r.header, "Content-Range", fmt.Sprintf("bytes */%d", r.size))
		return r
	}
	r.status, r.length = http.StatusPartialContent, end-start
	r.header = append(r.header, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, r.size))
	if r.file == nil {
		r.data = r.data[start:end]
		return r
	}
	if _, err := r.file.Seek(start, 0); err != nil {
		return failure(http.StatusInternalServerError, "UNKNOWN")
	}
	return r
}

// parseRange reads "bytes=a-b" and "bytes=a-". Anything else is no range.
func parseRange(header string, size int64) (start, end int64, ok bool) {
	switch n, _ := fmt.Sscanf(header, "bytes=%d-%d", &start, &end); {
	case n == 2:
		return start, min(end+1, size), start >= 0
	case n == 1 && strings.HasSuffix(header, "-"):
		return start, size, start >= 0
	}
	return 0, 0, false
}
