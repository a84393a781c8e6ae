package contender

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"sync"
)

// copySize is how much is copied at once.
const copySize = 256 << 10 // 256 KiB

var errContent = errors.New("wrong content")

// saver writes bodies to files.
type saver struct {
	buffers sync.Pool // of *[]byte, copySize long
}

func newSaver() *saver {
	return &saver{buffers: sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}}
}

// save writes a body to its file and, where its library does not, checks the digest of what came.
func (s *saver) save(path string, b Blob, body io.Reader, from library) error {
	var h hash.Hash
	if !from.verifies {
		h = sha256.New()
	}
	n, err := s.copy(path, body, h, from.syncs)
	if err != nil {
		return err
	}
	if n != b.Size || h != nil && "sha256:"+hex.EncodeToString(h.Sum(nil)) != b.Digest {
		return fmt.Errorf("%w: %s", errContent, b.Digest)
	}
	return nil
}

// copy hides what body and file could do for each other, so that all contenders copy in the same way.
func (s *saver) copy(path string, body io.Reader, h hash.Hash, sync bool) (n int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffer := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	to := struct{ io.Writer }{f}
	if h != nil {
		to.Writer = io.MultiWriter(h, f)
	}
	n, err = io.CopyBuffer(to, struct{ io.Reader }{body}, *buffer)
	if err == nil && sync {
		err = f.Sync()
	}
	return n, err
}

// transport is net/http's, with as many idle connections as there are workers: without
// them, every second request would need a new one.
func transport(workers int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.ForceAttemptHTTP2 = false
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 2*workers, workers
	return t
}
