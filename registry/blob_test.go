package registry_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

// weights is the content of a blob that comes in many reads.
var weights = bytes.Repeat([]byte("weights "), 64<<10) // 512 KiB

func blobOf(content []byte) transfer.Blob {
	return transfer.Blob{Digest: digest.FromBytes(content).String(), Size: int64(len(content))}
}

// readBlob reads a blob whole.
func readBlob(ctx context.Context, repo *registry.Repository, b transfer.Blob) ([]byte, error) {
	r, err := repo.Blob(ctx, b)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestBlobIsReadInSpiteOfFaults(t *testing.T) {
	for script, requests := range map[string]int{
		"ok":                           1,
		"503->reset->ok":               3,
		"reset(100000)":                2,
		"reset(0)->eof(1)->stall(200)": 4,
		"chunked+reset(5000)->truncchunk(6000)->ok":  3,
		"reset(100000)->norange":                     2,
		"reset(100000)->norange+reset(100)->ok":      3,
		"reset(100000)->416->ok":                     3,
		"reset(100000)->403->ok":                     3,
		"reset(100000)->501->503->ok":                4,
		"reset(100000)->range(bytes 0-9/524288)->ok": 3,
	} {
		t.Run(script, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				w.reg.Put(repository, weights)
				w.reg.Fault("GET", "/blobs/", "401(www-authenticate: Bearer realm=\""+w.realm+"\")->"+script)
				got, err := readBlob(t.Context(), w.open(person), blobOf(weights))
				require.NoError(t, err)
				assert.True(t, bytes.Equal(weights, got))
				assert.Equal(t, requests+1, w.reg.Count("GET", "/blobs/"))
			})
		})
	}
}

// What is read is the blob, or the last Read says that it is not.
func TestBlobIsVerified(t *testing.T) {
	for script, want := range map[string]error{
		"**flip(5)":            transfer.ErrDigestMismatch,
		"**chunked+flip(7)":    transfer.ErrDigestMismatch,
		"**long(10)":           transfer.ErrSizeMismatch,
		"**clen(5)":            transfer.ErrSizeMismatch,
		"**page":               transfer.ErrProtocol,
		"**404":                &transfer.StatusError{},
		"**401":                registry.ErrUnauthorized,
		"**403":                registry.ErrDenied,
		"**reset(0)":           transfer.ErrRetriesExhausted,
		"**encoding(br)":       transfer.ErrProtocol,
		"reset(9)->**404":      &transfer.StatusError{},
		"reset(9)->**stall(0)": transfer.ErrRetriesExhausted,
	} {
		t.Run(script, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				w.reg.Put(repository, weights)
				w.reg.Fault("GET", "/blobs/", script)
				begun := time.Now()
				_, err := readBlob(t.Context(), w.open(), blobOf(weights))
				if _, status := want.(*transfer.StatusError); status {
					requireStatus(t, err, 404)
				} else {
					require.ErrorIs(t, err, want)
				}
				assert.Contains(t, err.Error(), blobOf(weights).Digest)
				assert.Less(t, time.Since(begun), 8*time.Minute)
			})
		})
	}
	w := newWorld(t, registrytest.H1)
	_, err := w.open().Blob(t.Context(), transfer.Blob{Digest: "sha256:x"})
	require.ErrorIs(t, err, transfer.ErrInvalidDigest)
	_, err = w.open().Blob(t.Context(), transfer.Blob{Digest: blobOf(weights).Digest, Size: -1})
	require.ErrorIs(t, err, transfer.ErrInvalidBlob)
	_, err = new(registry.Repository).Blob(t.Context(), blobOf(weights))
	require.ErrorIs(t, err, transfer.ErrInvalidOption)
	assert.Empty(t, w.reg.Requests())
}

func TestBlobOfAMirror(t *testing.T) {
	for script, atRegistry := range map[string]int{
		"**ok": 0, "**404": 1, "**503": 1, "**norange+reset(100)": 1,
		"reset(1000)->reset(1000)->reset(1000)->**404": 1,
	} {
		t.Run(script, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				w.reg.Put(repository, weights)
				mirror := registrytest.New(registrytest.Options{})
				mirror.Put(repository, weights)
				mirror.Fault("GET", "/blobs/", script)
				url := w.net.Serve("mirror.test", mirror, mode).URL
				repo := w.open(person, func(o *registry.Options) { o.Mirrors = []string{url} })
				_, err := repo.GetToken(t.Context(), transfer.AuthChallenge{Realm: w.realm})
				require.NoError(t, err)
				got, err := readBlob(t.Context(), repo, blobOf(weights))
				require.NoError(t, err)
				assert.True(t, bytes.Equal(weights, got))
				assert.Equal(t, atRegistry, w.reg.Count("GET", "/blobs/"))
				for _, r := range mirror.Requests() {
					assert.Empty(t, r.Header.Get("Authorization"))
				}
			})
		})
	}
}

// A reader that takes its time is no stall, whatever becomes of the connection.
func TestBlobForASlowReader(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Put(repository, weights)
		repo := w.open(func(o *registry.Options) { o.RetryTimeout = time.Minute })
		r, err := repo.Blob(t.Context(), blobOf(weights))
		require.NoError(t, err)
		defer r.Close()
		var got []byte
		for err == nil {
			part := make([]byte, 100_000)
			var n int
			n, err = io.ReadFull(r, part)
			got = append(got, part[:n]...)
			time.Sleep(10 * time.Minute)
		}
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "of ReadFull")
		assert.True(t, bytes.Equal(weights, got))
		n, err := r.Read(make([]byte, 1))
		assert.Zero(t, n)
		assert.Equal(t, io.EOF, err)
	})
}

// The time that a reader takes is no fault of a mirror.
func TestBlobOfAMirrorForASlowReader(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		content := bytes.Repeat(weights, 16) // more than what buffers hold
		mirror := registrytest.New(registrytest.Options{})
		mirror.Put(repository, content)
		repo := w.open(func(o *registry.Options) {
			o.Mirrors = []string{w.net.Serve("mirror.test", mirror, mode).URL}
		})
		r, err := repo.Blob(t.Context(), blobOf(content))
		require.NoError(t, err)
		defer r.Close()
		part := make([]byte, 1<<20)
		for n := int64(0); n < int64(len(content)); n += int64(len(part)) {
			time.Sleep(10 * time.Minute)
			_, err = io.ReadFull(r, part)
			require.NoError(t, err)
		}
		assert.Equal(t, 1, mirror.Count("GET", "/blobs/"))
		assert.Empty(t, w.reg.Requests())
	})
}

func TestBlobThatIsNotReadToItsEnd(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Put(repository, weights)
		r, err := w.open().Blob(t.Context(), blobOf(weights))
		require.NoError(t, err)
		_, err = r.Read(make([]byte, 10))
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.NoError(t, r.Close())
		_, err = r.Read(make([]byte, 10))
		require.ErrorIs(t, err, os.ErrClosed)

		ctx, cancel := context.WithCancel(t.Context())
		w.reg.Fault("GET", "/blobs/", "**stall(100)")
		r, err = w.open().Blob(ctx, blobOf(weights))
		require.NoError(t, err)
		time.AfterFunc(time.Second, cancel)
		begun := time.Now()
		_, err = io.ReadAll(r)
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, time.Second, time.Since(begun))

		empty := blobOf(nil)
		w.reg.Put(repository, nil)
		w.reg.Fault("GET", "/blobs/", "ok")
		got, err := readBlob(t.Context(), w.open(), empty)
		require.NoError(t, err)
		assert.Empty(t, got)
	})
}

// A server that refuses ranges is asked for one once.
func TestN49BlobOfAServerThatRefusesRanges(t *testing.T) {
	for _, status := range []int{400, 403, 405, 412, 416, 422, 500, 501} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.reg.Put(repository, weights)
			ranged := 0
			w.reg.Configure(func(o *registrytest.Options) {
				o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
					refused := r.Header.Get("Range") != ""
					if refused {
						ranged++
						rw.WriteHeader(status)
					}
					return refused
				}
			})
			w.reg.Fault("GET", "/blobs/", "reset(100000)->ok->reset(200000)->reset(300000)->ok")
			got, err := readBlob(t.Context(), w.open(), blobOf(weights))
			require.NoError(t, err, status)
			assert.True(t, bytes.Equal(weights, got))
			assert.Equal(t, 1, ranged, status)
		})
	}
}

// The coding may be that of the blob itself, where its length is told, and is no other than gzip.
func TestN50BlobWhoseCodingIsTold(t *testing.T) {
	for script, want := range map[string]error{
		"**header(content-encoding: gzip)":                                                 nil,
		"**header(content-encoding: X-Gzip)":                                               nil,
		"header(content-encoding: x-gzip)+reset(100000)->header(content-encoding: x-gzip)": nil,
		"header(content-encoding: x-gzip)+reset(100000)->header(content-encoding: br)->ok": nil,

		"**header(content-encoding: br)":           transfer.ErrProtocol,
		"**header(content-encoding: gzip, br)":     transfer.ErrProtocol,
		"**chunked+header(content-encoding: gzip)": transfer.ErrProtocol,
	} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.reg.Put(repository, weights)
			w.reg.Fault("GET", "/blobs/", script)
			got, err := readBlob(t.Context(), w.open(), blobOf(weights))
			if want != nil {
				require.ErrorIs(t, err, want, script)
				return
			}
			require.NoError(t, err, script)
			assert.True(t, bytes.Equal(weights, got))
		})
	}
}
