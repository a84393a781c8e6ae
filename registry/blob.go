package registry

import (
	"context"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// maxBodyFaults is how many bodies of a mirror may break before it is left alone.
const maxBodyFaults = 3

// Blob returns a reader of a blob, for programs that stream it or keep it elsewhere than in a directory;
// [transfer.Download] is faster. It asks the mirrors first and verifies the blob: io.EOF means that what was
// read is the blob. After any other error of the last Read, such as [transfer.ErrDigestMismatch], throw away
// all that was read.
//
// After a fault the rest is asked for, until RetryTimeout has passed without a byte; where a source serves
// no ranges, what was read comes again and is dropped. None of it is kept in memory. The time between two
// Reads is the caller's: a connection that has ended meanwhile is replaced.
//
// The reader must be closed, and is for one goroutine at a time. It ends with ctx. The error of Blob is
// [transfer.ErrInvalidDigest], [transfer.ErrInvalidBlob], [transfer.ErrSizeMismatch], or one of
// [Repository.Manifest].
func (r *Repository) Blob(ctx context.Context, b transfer.Blob) (io.ReadCloser, error) {
	dg, err := manifest.ParseDigest(b.Digest)
	if err != nil {
		return nil, err
	}
	if b.Size < 0 {
		return nil, fmt.Errorf("%w %s: negative size %d", transfer.ErrInvalidBlob, dg, b.Size)
	}
	if err := r.usable(ctx); err != nil {
		return nil, err
	}
	reader := &blobReader{
		caller: ctx, digest: dg, size: b.Size, hash: dg.Algorithm().Hash(), sources: r.sources(),
		target: r.registry.Blob(r.opts.Repository, dg),
	}
	ctx, cancel := context.WithCancel(ctx)
	c, release := r.begin(ctx, r.auth.current(toPull), r.auth.getter(toPull))
	reader.call, reader.ctx = c, ctx
	reader.end = func() { cancel(); release() }
	if err := c.Retry(ctx, reader.target, reader.ask); err != nil {
		return nil, reader.fail(err)
	}
	reader.pause()
	return reader, nil
}

// blobReader is the reader of a blob.
type blobReader struct {
	call    *call
	ctx     context.Context // of all its requests
	caller  context.Context
	end     func() // ends the call; nil when it has ended
	digest  digest.Digest
	size    int64
	target  wire.Target
	sources []*source
	hash    hash.Hash

	body *blobBody // nil where the next byte is to be asked for
	at   int64     // how much was read
	err  error     // of all Reads that follow
}

// blobBody is an answer, and whose it is.
type blobBody struct {
	*exchange.Response
	from *source
}

// Read reads what comes next. It asks for the rest where that was cut off.
func (r *blobReader) Read(p []byte) (n int, err error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if r.body != nil {
		r.body.Watch.Resume()
	}
	defer r.pause()
	if p = p[:min(int64(len(p)), r.size-r.at)]; len(p) > 0 {
		err = r.call.Retry(r.ctx, r.target, func(ctx context.Context, b *retry.Budget) error {
			if r.body == nil {
				if err := r.ask(ctx, b); err != nil {
					return err
				}
			}
			n, err = r.some(p)
			return err
		})
	}
	if err != nil {
		return 0, r.fail(err)
	}
	_, _ = r.hash.Write(p[:n])
	if r.at += int64(n); r.at < r.size {
		return n, nil
	}
	return n, r.finish()
}

// pause keeps the time until the next Read from being that of the source.
func (r *blobReader) pause() {
	if r.body != nil {
		r.body.Watch.Pause()
	}
}

// some reads at least one byte of the body. Where no byte comes, it gives the body up.
func (r *blobReader) some(p []byte) (n int, err error) {
	for n == 0 && err == nil {
		n, err = r.body.Body.Read(p)
	}
	if n > 0 {
		return n, nil // the error comes again
	}
	if err == io.EOF {
		err = fmt.Errorf("%w: the body ended early", transfer.ErrSizeMismatch)
	}
	from := r.body.from
	if from.faults++; from.mirror && from.faults >= maxBodyFaults {
		from.over = true
	}
	r.drop()
	return 0, err
}

// drop gives up the body.
func (r *blobReader) drop() {
	if r.body != nil {
		_ = r.body.Body.Close()
		r.body = nil
	}
}

// ask asks the sources in turn for the rest.
func (r *blobReader) ask(ctx context.Context, b *retry.Budget) error {
	return r.call.inTurn(ctx, r.sources, func(s *source) error { return r.askOne(ctx, b, s) })
}

// askOne asks one source for the rest.
func (r *blobReader) askOne(ctx context.Context, b *retry.Budget, s *source) error {
	target := s.registry.Blob(r.call.repo.opts.Repository, r.digest)
	request := wire.Request{Method: http.MethodGet, Target: target}
	ranged := r.at > 0 && !s.whole
	if ranged {
		request.Header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", r.at, r.size-1)}}
	}
	resp, err := r.call.Exchange.Do(ctx, exchange.Request{
		Request: request, Blob: true, MaySlow: true, Budget: b,
	})
	if err != nil {
		return err
	}
	if err := r.check(resp, ranged); err != nil {
		_ = resp.Body.Close()
		if ranged && refusesRanges(resp.StatusCode) {
			s.whole = true // the plain way
			return retry.OtherWay(err)
		}
		return err
	}
	r.body = &blobBody{resp, s}
	if resp.StatusCode == http.StatusOK && r.at > 0 {
		s.whole = true
		if _, err := io.CopyN(io.Discard, resp.Body, r.at); err != nil {
			r.drop()
			return fmt.Errorf("reading again what was read: %w", err)
		}
	}
	return nil
}

// refusesRanges tells the statuses after which the whole blob is asked for: 206 is one with another range.
func refusesRanges(status int) bool {
	return status == http.StatusPartialContent || status == http.StatusRequestedRangeNotSatisfiable ||
		wire.RefusesRange(status)
}

// check reports whether an answer is what was asked for, before a byte of it is read.
func (r *blobReader) check(resp *exchange.Response, ranged bool) error {
	broken := (&calls.Answer{Response: resp}).Broken
	length := resp.ContentLength
	switch resp.StatusCode {
	case http.StatusOK:
		switch {
		case length != r.size && wire.LooksLikeWebPage(resp.Header):
			return broken("the answer is a web page")
		case length >= 0 && length != r.size:
			return retry.Permanent(
				fmt.Errorf("%w: there are %d bytes, not %d", transfer.ErrSizeMismatch, length, r.size))
		}
	case http.StatusPartialContent:
		start, end, size, err := wire.ContentRange(resp.Header)
		if !ranged || err != nil || start != r.at || end != r.size || size >= 0 && size != r.size {
			return broken("the range is another than was asked for")
		}
	default:
		return r.call.Exchange.Error(resp)
	}
	if coding := wire.Coding(resp.Response, r.size); coding != "" {
		return broken("the content coding is %.20q", coding)
	}
	return nil
}

// finish checks that all that was read is the blob, and nothing else.
func (r *blobReader) finish() error {
	if r.body != nil {
		var one [1]byte
		if n, _ := io.ReadFull(r.body.Body, one[:]); n > 0 {
			return r.fail(fmt.Errorf("%w: the body goes on after %d bytes", transfer.ErrSizeMismatch, r.size))
		}
	}
	if got := digest.NewDigest(r.digest.Algorithm(), r.hash); got != r.digest {
		return r.fail(fmt.Errorf("%w: it is %s", transfer.ErrDigestMismatch, got))
	}
	r.close(io.EOF)
	return io.EOF
}

// fail ends the call with an error.
func (r *blobReader) fail(err error) error {
	r.close(fmt.Errorf("blob %s: %w", r.digest, calls.Ended(r.caller, err)))
	return r.err
}

// close ends the call. All Reads that follow have the error.
func (r *blobReader) close(err error) {
	if r.end == nil {
		return
	}
	r.drop()
	r.end()
	r.err, r.end = err, nil
}

// Close ends the request. It returns no error: whether the blob was read is what Read says.
func (r *blobReader) Close() error {
	r.close(fmt.Errorf("blob %s: %w", r.digest, os.ErrClosed))
	return nil
}
