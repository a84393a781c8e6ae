package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
	"golang.org/x/sync/errgroup"
)

const (
	// streamsAtOnce is how many blobs go at once. Of each, one buffer of a connection is in memory.
	streamsAtOnce = 16

	// maxContinued is how often the upload of a blob goes on after a fault. What the target has already is
	// fetched again each time, and dropped.
	maxContinued = 3

	// storeTime is how long a registry may take to store what it has got.
	storeTime = 5 * time.Minute
)

// errNoStream is a blob that has to go through the disk.
var errNoStream = errors.New("it cannot be passed on as it comes")

// streamer passes blobs on from one registry to another as they come. The source is read as a
// [registry.Repository] reads it: redirects are followed, and what is cut is asked for from there on. At
// the target it is a shortcut: what that does not take goes through the disk, where each fault is dealt
// with.
type streamer struct {
	from  *registry.Repository
	to    *prober
	host  string // of the source
	trace transfer.Trace
	told  func(moved int64)

	own, shared *transfer.Limiter // both rule

	off   atomic.Bool // the target does not let it work
	mu    sync.Mutex  // guards the field that follows, and the calls of told
	moved int64
}

// all passes on the blobs and returns those that are left. The error is that of the source or of the
// context; what has arrived stays.
func (s *streamer) all(
	ctx context.Context, blobs []transfer.Blob, most int,
) (left []transfer.Blob, err error) {
	sent := make([]bool, len(blobs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(most)
	for i, b := range blobs {
		g.Go(func() error {
			if s.off.Load() || ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := s.one(ctx, b)
			sent[i] = err == nil
			return sourceFault(ctx, err)
		})
	}
	err = g.Wait()
	for i, b := range blobs {
		if !sent[i] {
			left = append(left, b)
		}
	}
	return left, err
}

// sourceError is an error of the source.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

// sourceFault returns what ends a copy: the source's last word on a blob. Bytes that are wrong are fetched
// again, through the disk.
func sourceFault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	wrong := errors.Is(err, transfer.ErrDigestMismatch) || errors.Is(err, transfer.ErrSizeMismatch)
	if fault, ok := errors.AsType[*sourceError](err); ok && !wrong {
		return fault.error
	}
	return nil
}

// one passes on one blob.
func (s *streamer) one(ctx context.Context, b transfer.Blob) error {
	begun := time.Now()
	upload, _, err := s.to.begin(ctx)
	if upload == "" {
		s.off.Store(true)
		return errors.Join(err, errNoStream)
	}
	p := &passage{s: s, blob: b, upload: upload}
	err = p.send(ctx)
	for n := 0; err != nil && n < maxContinued && p.goesOn(ctx, err); n++ {
		err = p.send(ctx)
	}
	if err == nil || p.at == b.Size && s.to.has(ctx, b) { // an answer may be lost
		done := transfer.DoneInfo{Blob: b, Host: s.host, Moved: b.Size, Duration: time.Since(begun)}
		tell(s.trace.Done, done)
		return nil
	}
	s.move(-p.at)
	s.to.end(ctx, p.upload)
	tell(s.trace.Failed, transfer.FailInfo{Blob: b, Err: err})
	return err
}

// passage is one blob on its way.
type passage struct {
	s      *streamer
	blob   transfer.Blob
	upload string // the URL of the session
	at     int64  // how much was sent, or after a fault, how much the target has
}

// send sends the rest of the blob, which ends the upload.
func (p *passage) send(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	source, err := p.s.from.Blob(ctx, p.blob)
	if err != nil {
		return &sourceError{err}
	}
	defer source.Close()
	from := p.s.shared.Reader(ctx, p.s.own.Reader(ctx, source))
	if _, err := io.CopyN(io.Discard, from, p.at); err != nil {
		return &sourceError{err}
	}
	rest := p.blob.Size - p.at
	tell(p.s.trace.Started, transfer.StartInfo{Blob: p.blob, Host: p.s.host, Offset: p.at, Size: rest})
	body := &window{passage: p, ctx: ctx, from: from, watch: time.AfterFunc(p.s.to.patience, cancel)}
	err = p.put(ctx, body)
	cancel() // the transport may still read
	if fault := body.end(); fault != nil {
		return &sourceError{fault}
	}
	return err
}

// put ends an upload with its last body. The registry checks the digest.
func (p *passage) put(ctx context.Context, body io.Reader) error {
	u, err := url.Parse(p.upload)
	if err != nil {
		return err
	}
	query := u.Query()
	query.Set("digest", p.blob.Digest)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), body)
	if err != nil {
		return err
	}
	if req.ContentLength = p.blob.Size - p.at; req.ContentLength == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if p.at > 0 {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", p.at, p.blob.Size-1))
	}
	p.s.to.authorize(req)
	resp, err := p.s.to.client.Do(req) // which takes the time that it takes
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	named := resp.Header.Get("Docker-Content-Digest")
	if resp.StatusCode != http.StatusCreated || named != "" && named != p.blob.Digest {
		return &refusedError{resp.StatusCode}
	}
	return nil
}

// refusedError is the answer of a target that did not take a blob.
type refusedError struct{ status int }

func (e *refusedError) Error() string { return errNoStream.Error() }

// goesOn tells whether an upload can go on after a fault, and asks where. It cannot where the target has
// refused all of the blob: then it is not asked for another either.
func (p *passage) goesOn(ctx context.Context, err error) bool {
	if _, ok := errors.AsType[*sourceError](err); ok || ctx.Err() != nil {
		return false
	}
	refused, ok := errors.AsType[*refusedError](err)
	if ok && refused.status != http.StatusUnauthorized && refused.status < http.StatusInternalServerError {
		p.s.off.Store(true)
		return false
	}
	upload, have, ok := p.s.to.offset(ctx, p.upload)
	if !ok || have > p.at {
		return false
	}
	p.s.move(have - p.at)
	p.upload, p.at = upload, have
	return true
}

// move counts bytes that have moved.
func (s *streamer) move(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved += n
	s.told(s.moved)
}

// tell calls a function of the caller's, which may be nil.
func tell[T any](f func(T), info T) {
	if f != nil {
		f(info)
	}
}

// tellEvery is how often Moving is told of a blob.
const tellEvery = 1 << 20 // 1 MiB

// window is a body on its way. While it waits for the source, the watch does not end it: that has a time of
// its own.
type window struct {
	*passage
	ctx   context.Context
	from  io.Reader
	watch *time.Timer // of the target

	mu    sync.Mutex // guards the fields that follow, and the passage
	fault error      // of the source
	ended bool
}

func (w *window) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || w.fault != nil { // the transport may read on when it has answered
		return 0, errNoStream
	}
	w.watch.Stop()
	n, err := w.from.Read(p)
	if err != nil && err != io.EOF {
		if w.ctx.Err() == nil {
			w.fault = err
		}
		return 0, err // a target that checks nothing would take the last bytes of a wrong blob for its end
	}
	before := w.at
	if w.at += int64(n); w.at == w.blob.Size {
		w.watch.Reset(storeTime)
	} else {
		w.watch.Reset(w.s.to.patience)
	}
	if w.s.move(int64(n)); before/tellEvery != w.at/tellEvery {
		tell(w.s.trace.Moving, transfer.MoveInfo{Blob: w.blob, Completed: w.at})
	}
	return n, err
}

// end returns the error of the source. Nothing is read any more.
func (w *window) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch.Stop()
	w.ended = true
	return w.fault
}
