package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer"
	"golang.org/x/sync/errgroup"
)

const (
	// maxStreamed is the largest blob that goes from one registry to the other without the disk between: what
	// is cut begins again, and only what is on the disk is continued by another run.
	maxStreamed = 1 << 30 // 1 GiB

	// streamsAtOnce is how many blobs go at once. Each has a window of a buffer.
	streamsAtOnce = 16

	// storeTime is how long a registry may take to store what it has got.
	storeTime = 5 * time.Minute
)

// errNoStream is a blob that has to go through the disk.
var errNoStream = errors.New("it cannot be passed on as it comes")

// streamer passes blobs on from one registry to another as they come, with one attempt for each. It is a
// shortcut: what it does not bring to the target goes through the disk, where each fault is dealt with.
type streamer struct {
	from, to *prober
	stall    time.Duration
	told     func(moved int64)

	off   atomic.Bool // a registry does not let it work
	moved atomic.Int64
	mu    sync.Mutex // guards the calls of told
}

// all passes on the blobs and returns those that are left. The error is that of the context.
func (s *streamer) all(ctx context.Context, blobs []transfer.Blob, most int) (left []transfer.Blob, err error) {
	sent := make([]bool, len(blobs))
	var g errgroup.Group
	g.SetLimit(most)
	for i, b := range blobs {
		if b.Size > maxStreamed {
			continue
		}
		g.Go(func() error {
			sent[i] = !s.off.Load() && ctx.Err() == nil && s.one(ctx, b) == nil
			return nil
		})
	}
	_ = g.Wait()
	for i, b := range blobs {
		if !sent[i] {
			left = append(left, b)
		}
	}
	return left, context.Cause(ctx)
}

// one passes on one blob.
func (s *streamer) one(ctx context.Context, b transfer.Blob) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	source, err := s.from.open(ctx, http.MethodGet, s.from.base+b.Digest)
	if err != nil {
		return err
	}
	defer source.Body.Close()
	if source.StatusCode != http.StatusOK || source.ContentLength != b.Size ||
		source.Header.Get("Content-Encoding") != "" {
		s.off.Store(source.StatusCode/100 == 3) // a redirect wants more care than a shortcut takes
		return errNoStream
	}
	upload, _, err := s.to.begin(ctx)
	if upload == "" {
		s.off.Store(true)
		return errors.Join(err, errNoStream)
	}
	body := &window{from: source.Body, s: s, watch: time.AfterFunc(s.stall, cancel)}
	err = s.put(ctx, upload, b, body)
	sent := body.end()
	if err != nil {
		s.off.Store(ctx.Err() == nil && sent == b.Size) // it has all and does not take it
		s.move(-sent)
		s.to.end(ctx, upload)
	}
	return err
}

// put ends an upload with its only body. The registry checks the digest.
func (s *streamer) put(ctx context.Context, upload string, b transfer.Blob, body io.Reader) error {
	u, err := url.Parse(upload)
	if err != nil {
		return err
	}
	query := u.Query()
	query.Set("digest", b.Digest)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), body)
	if err != nil {
		return err
	}
	req.ContentLength = b.Size
	if b.Size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := s.to.transfer(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	named := resp.Header.Get("Docker-Content-Digest")
	if resp.StatusCode != http.StatusCreated || named != "" && named != b.Digest {
		return errNoStream
	}
	return nil
}

func (s *streamer) move(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told(s.moved.Add(n))
}

// window is a body on its way. While it moves, the watch does not end it.
type window struct {
	from  io.Reader
	s     *streamer
	watch *time.Timer

	mu    sync.Mutex // guards the fields that follow
	sent  int64
	ended bool
}

func (w *window) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended { // the transport may read on when it has answered
		return 0, errNoStream
	}
	if err == io.EOF {
		w.watch.Reset(storeTime)
	} else {
		w.watch.Reset(w.s.stall)
	}
	w.sent += int64(n)
	w.s.move(int64(n))
	return n, err
}

// end returns how much was read. Nothing is read any more.
func (w *window) end() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch.Stop()
	w.ended = true
	return w.sent
}
