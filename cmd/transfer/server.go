package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// server is a registry on a loopback port that keeps its blobs in a directory
// and its manifests in memory.
type server struct {
	url    string
	dir    string
	http   *http.Server
	served chan struct{} // closed when http.Serve has returned

	requests sync.RWMutex // held for reading by each request
	closed   bool         // guarded by requests
}

// startServer starts a registry. On failure nothing is left running.
func startServer(dir string) (*server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	silent := log.New(io.Discard, "", 0)
	blobs := diskBlobs{registry.NewDiskBlobHandler(dir)}
	handler := registry.New(registry.WithBlobHandler(blobs), registry.Logger(silent))
	s := &server{url: "http://" + listener.Addr().String(), dir: dir, served: make(chan struct{})}
	s.http = &http.Server{Handler: s.track(handler), ErrorLog: silent, ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener) // ErrServerClosed; anything else shows at the client
	}()
	return s, nil
}

func (s *server) track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.RLock()
		defer s.requests.RUnlock()
		if s.closed {
			http.Error(w, "closed", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// close returns when no request can touch the directory any more. Uploads that
// did not end are removed, which the disk handler leaves to others.
func (s *server) close() {
	_ = s.http.Close()
	<-s.served
	s.requests.Lock()
	defer s.requests.Unlock()
	s.closed = true
	unfinished, _ := fs.Glob(os.DirFS(s.dir), "upload-*")
	for _, name := range unfinished {
		_ = os.Remove(filepath.Join(s.dir, name)) // what stays takes room, and is never taken for a blob
	}
}

// diskBlobs is a disk handler that tells the size of a blob without hashing it,
// which the disk handler does for each request. It was hashed when it came.
type diskBlobs struct{ registry.BlobHandler }

var (
	_ registry.BlobStatHandler = diskBlobs{}
	_ registry.BlobPutHandler  = diskBlobs{}
)

// Get opens a blob. Where there is none the error is registry.ErrNotFound.
func (d diskBlobs) Get(ctx context.Context, repository string, h v1.Hash) (io.ReadCloser, error) {
	body, err := d.BlobHandler.Get(ctx, repository, h)
	if errors.Is(err, fs.ErrNotExist) {
		err = registry.ErrNotFound
	}
	return body, err
}

// Stat returns the size of a blob. Where there is none the error is
// registry.ErrNotFound.
func (d diskBlobs) Stat(ctx context.Context, repository string, h v1.Hash) (int64, error) {
	body, err := d.Get(ctx, repository, h)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	file, ok := body.(fs.File)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Put keeps a blob. On failure there is none under its name.
func (d diskBlobs) Put(ctx context.Context, repository string, h v1.Hash, body io.ReadCloser) error {
	keeper, ok := d.BlobHandler.(registry.BlobPutHandler)
	if !ok {
		return errors.ErrUnsupported
	}
	return keeper.Put(ctx, repository, h, body)
}
