package registry

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// bufferSize is how much is read or written at once.
const bufferSize = 256 << 10 // 256 KiB

// Loopback is the address of a registry for this machine only.
const Loopback = "127.0.0.1"

// Server is the registry and its CDN.
type Server struct {
	blobs     *blobs
	registry  *net.TCPListener
	cdn       *net.TCPListener
	state     atomic.Pointer[state]
	accepting sync.WaitGroup
}

// state is what a reset makes anew.
type state struct {
	knobs   Knobs
	tally   *tally
	uploads *uploads
	total   pacer
	bodies  atomic.Int64 // under way
	serving sync.RWMutex // held for reading by each connection
}

// Start begins to serve the blobs of a directory, each a file "sha256-<hex>", at an IP address.
func Start(dir, address string) (*Server, error) {
	s := &Server{blobs: newBlobs(dir)}
	s.state.Store(newState(Knobs{}))
	var err error
	if s.registry, err = listen(address); err != nil {
		return nil, err
	}
	if s.cdn, err = listen(address); err != nil {
		_ = s.registry.Close()
		return nil, err
	}
	s.accepting.Go(func() { s.accept(s.registry, false) })
	s.accepting.Go(func() { s.accept(s.cdn, true) })
	return s, nil
}

func listen(address string) (*net.TCPListener, error) {
	return net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(address)})
}

func newState(k Knobs) *state {
	return &state{knobs: k, tally: newTally(), uploads: newUploads()}
}

// Reset changes the behaviour, forgets what was uploaded, and counts from 0. Clients of before must have
// ended.
func (s *Server) Reset(k Knobs) { s.state.Store(newState(k)) }

// Counts returns what was asked since the last reset. It waits until all clients have gone, so that
// nothing is left out.
func (s *Server) Counts() Counts {
	st := s.state.Load()
	st.serving.Lock()
	defer st.serving.Unlock()
	c := st.tally.counts()
	c.Uploaded = st.uploads.finished()
	return c
}

// URL is the base URL of the registry.
func (s *Server) URL() string { return "http://" + s.registry.Addr().String() }

// Close stops to accept. Clients that are connected are served until they go away.
func (s *Server) Close() error {
	err := errors.Join(s.registry.Close(), s.cdn.Close())
	s.accepting.Wait()
	return err
}

func (s *Server) accept(l *net.TCPListener, cdn bool) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return
		}
		st := s.state.Load()
		number := st.tally.connections.Add(1) - 1
		go newConn(s, st, c, number, cdn).serve()
	}
}
