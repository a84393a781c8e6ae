//go:build linux

package storm

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pace"
)

const (
	sectorSize = 512
	baseSize   = 64 << 10 // 64 KiB of noise, of which every sector of a stream is a numbered copy
)

// stream is one blob, too large to be held in memory, and the registry that serves it. No two of its sectors
// are the same, so that bytes in the wrong place are wrong bytes.
type stream struct {
	size   int64
	noise  [baseSize]byte
	digest digest.Digest
	pace   *pace.Limiter

	mu      sync.Mutex // guards the fields that follow
	sent    int64      // bytes of bodies
	mark    int64
	reached chan struct{} // closed when sent reaches mark; nil when nobody waits
}

var _ io.ReaderAt = (*stream)(nil)

func newStream(t testing.TB, size, bytesPerSecond int64) *stream {
	t.Helper()
	s := &stream{size: size, pace: pace.New(bytesPerSecond)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(s.noise[:])
	var err error
	s.digest, err = digest.FromReader(s.reader())
	require.NoError(t, err)
	return s
}

func (s *stream) reader() io.ReadSeeker { return io.NewSectionReader(s, 0, s.size) }

// ReadAt makes the bytes at the offset.
func (s *stream) ReadAt(p []byte, off int64) (n int, err error) {
	if left := s.size - off; int64(len(p)) > left {
		p, err = p[:max(left, 0)], io.EOF
	}
	var sector [sectorSize]byte
	for n < len(p) {
		at := off + int64(n)
		start := at - at%sectorSize
		copy(sector[:], s.noise[start%baseSize:])
		binary.LittleEndian.PutUint64(sector[:], uint64(start))
		n += copy(p[n:], sector[at-start:])
	}
	return n, err
}

// serve serves the blob on loopback until the test ends, and returns the base URL. The kernel may take
// little in advance, because what it still has when a client dies was counted as sent.
func (s *stream) serve(t testing.TB) string {
	server := httptest.NewUnstartedServer(s)
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && state == http.StateNew {
			assert.NoError(t, tcp.SetWriteBuffer(baseSize))
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// ServeHTTP serves the blob, or a range of it, under every path.
func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"`+s.digest.String()+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(&meter{ResponseWriter: w, r: r, stream: s}, r, "", time.Time{}, s.reader())
}

// meter paces the body of an answer and counts it.
type meter struct {
	http.ResponseWriter
	r      *http.Request
	stream *stream
}

// Write counts what the kernel took, whether or not it ever reaches the client.
func (m *meter) Write(p []byte) (int, error) {
	if err := m.stream.pace.Pay(m.r.Context(), len(p)); err != nil {
		return 0, err
	}
	n, err := m.ResponseWriter.Write(p)
	m.stream.count(int64(n))
	return n, err
}

func (s *stream) count(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent += n
	if s.reached != nil && s.sent >= s.mark {
		close(s.reached)
		s.reached = nil
	}
}

// after returns a channel that is closed when n more bytes were sent.
func (s *stream) after(n int64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = s.sent + n
	s.reached = make(chan struct{})
	return s.reached
}

func (s *stream) bytesSent() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

func TestStreamIsTheSameFromEveryOffset(t *testing.T) {
	s := newStream(t, 3*baseSize+100, 0)
	whole, err := io.ReadAll(s.reader())
	require.NoError(t, err)
	require.Len(t, whole, 3*baseSize+100)
	assert.Equal(t, s.digest, digest.FromBytes(whole))
	for _, off := range []int64{0, 1, sectorSize - 1, sectorSize + 3, baseSize - 1, 2*baseSize + 7} {
		part := make([]byte, 1000)
		_, err := s.ReadAt(part, off)
		require.NoError(t, err)
		assert.Equal(t, whole[off:off+1000], part, "offset %d", off)
	}
	n, err := s.ReadAt(make([]byte, 1000), s.size-10)
	assert.Equal(t, 10, n)
	assert.ErrorIs(t, err, io.EOF)
}
