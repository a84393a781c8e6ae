package transfer_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// largeContent is a blob of which half is kept, made once because that takes long under the
// race detector.
var largeContent = sync.OnceValues(func() ([]byte, digest.Digest) {
	data := make([]byte, largeSize)
	_, _ = rand.NewChaCha8([32]byte{33}).Read(data)
	return data, digest.FromBytes(data)
})

const largeSize = 33 << 20

// remoteOf is remote, or remoteLarge for that size.
func (w *world) remoteOf(size int) transfer.Blob {
	if size == largeSize {
		return w.remoteLarge()
	}
	return w.remote(size)
}

// sizeName names a size for subtests.
func sizeName(size int) string { return " " + strconv.Itoa(size) }

// remoteLarge returns a blob of 33 MiB that the registry has.
func (w *world) remoteLarge() transfer.Blob {
	data, dg := largeContent()
	w.content[dg] = data
	w.reg.Put(repository, data)
	return transfer.Blob{Digest: dg.String(), Size: int64(len(data))}
}

// requireHalf checks that a partial is left that the next call can continue (½ in the matrix of faults).
func (w *world) requireHalf(b transfer.Blob) {
	w.t.Helper()
	require.NoFileExists(w.t, w.path(b))
	require.FileExists(w.t, w.path(b)+".partial")
	require.FileExists(w.t, w.path(b)+".journal")
}

// requireOnly checks that nothing but these blobs is in the directory.
func (w *world) requireOnly(blobs ...transfer.Blob) {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	require.NoError(w.t, err)
	require.Len(w.t, entries, len(blobs))
	for _, b := range blobs {
		w.requireBlob(b)
	}
}

// port is the port of the registry, with a colon.
func (w *world) port() string {
	if strings.HasPrefix(w.server.URL, "https") {
		return ":443"
	}
	return ":80"
}

// dials is how often the registry was dialled.
func (w *world) dials() int { return w.net.Dials("registry.test" + w.port()) }

var errOurs = errors.New("the caller's own reason")

// withCancelAfter returns a context that is cancelled with errOurs after a while.
func withCancelAfter(t *testing.T, wait time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	timer := time.AfterFunc(wait, func() { cancel(errOurs) })
	return ctx, func() { timer.Stop(); cancel(nil) }
}
