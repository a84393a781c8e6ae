package main

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/model/serve"
)

// maxHeader is the longest header of a request that is read. Tokens of some KiB travel in headers.
const maxHeader = 64 << 10 // 64 KiB

// server is a registry that keeps what it has in a directory.
type server struct {
	url      string
	dir      string
	http     *http.Server
	registry *serve.Registry
	served   chan struct{} // closed when http.Serve has returned

	requests sync.RWMutex // held for reading by each request
	closed   bool         // guarded by requests
}

// startServer starts a registry on a loopback port. On failure nothing is left running.
func startServer(dir string) (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s, err := newServer(dir, serve.Options{}, "http://"+listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener) // ErrServerClosed; anything else shows at the client
	}()
	return s, nil
}

// newServer makes a server that is not listening yet.
func newServer(dir string, o serve.Options, url string) (*server, error) {
	registry, err := serve.Open(dir, o)
	if err != nil {
		return nil, err
	}
	s := &server{url: url, dir: dir, registry: registry, served: make(chan struct{})}
	s.http = &http.Server{
		Handler: s.track(registry), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
	}
	return s, nil
}

// track lets close wait for requests: http.Server.Close does not, and they write to the directory.
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

// close returns when no request can touch the directory any more.
func (s *server) close() {
	_ = s.http.Close()
	<-s.served
	s.requests.Lock()
	defer s.requests.Unlock()
	s.closed = true
	_ = s.registry.Close()
}
