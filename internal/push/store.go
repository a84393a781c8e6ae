package push

import (
	"context"
	"crypto/md5"
	"fmt"
	"hash"
	"net/http"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// The Ollama registry takes a blob in about partCount parts, of minPart at least and maxPart at most. Its
// object store wants all parts but the last to have one size.
const (
	partCount = 16
	minPart   = 100 << 20  // 100 MiB
	maxPart   = 1000 << 20 // 1000 MiB
)

// directUpload sends the blob to a URL of the registry's object store.
type directUpload struct {
	target   wire.Target
	header   http.Header // signed with it
	complete bool        // the body is there
}

// newDirect sends the blob where an answer with a new session says.
func newDirect(a answer) (*directUpload, error) {
	header, err := wire.SignedHeaders(a.Header)
	if err != nil {
		return &directUpload{}, retry.Permanent(fmt.Errorf("%w: %w", sentinel.ErrProtocol, err))
	}
	target, err := a.Target.Resolve(a.Header.Get("X-Direct-Upload-Url"))
	return &directUpload{target: target, header: header}, err
}

func (d *directUpload) send(ctx context.Context, b *Blob) (outcome, error) {
	r := b.request(http.MethodPut, d.target)
	r.Header = d.header.Clone()
	a, err := b.source.send(ctx, r, 0, b.size, nil)
	got, err := atStore(b, a, err)
	if got == complete {
		d.complete = true
		arrived(b, b.size)
	}
	return got, err
}

// atStore says what the answer of an object store to a body means: complete, where all of it is there.
func atStore(b *Blob, a answer, err error) (outcome, error) {
	switch {
	case err != nil:
		return lost, err
	case a.failed:
		return a.classify(b), b.err(a)
	case !a.whole():
		return b.tried.unread(a)
	case a.webPage():
		return failed, a.unexpected("200 of an object store")
	default:
		return complete, nil
	}
}

// partsUpload sends the blob in parts, each to a URL of the registry's object store that the registry gives
// out for it.
type partsUpload struct {
	size int64     // of all parts but the last
	sums hash.Hash // of the sums of the parts that were sent
	sum  hash.Hash // of the part that is being sent
	sent int       // how many
}

// newParts sends a blob of that size in parts.
func newParts(size int64) *partsUpload {
	return &partsUpload{size: partSize(size), sums: md5.New(), sum: md5.New()}
}

// partSize returns the size of all parts but the last of a blob.
func partSize(blob int64) int64 { return min(max(blob/partCount, minPart), maxPart) }

func (p *partsUpload) send(ctx context.Context, b *Blob) (outcome, error) {
	start := b.session.offset
	end := min(start+p.size, b.size)
	if start == end {
		return complete, nil
	}
	r := b.session.patch(start, end)
	r.Header.Set("X-Redirect-Uploads", "1")
	a, err := b.source.send(ctx, r, start, end, &p.sum)
	part := a
	if err == nil && wire.IsRedirect(a.StatusCode) {
		if r.Target, err = a.Target.Resolve(a.Header.Get("Location")); err != nil {
			return failed, err
		}
		a.Header.Del("Location") // it is the part's
		put := wire.Request{Method: http.MethodPut, Target: r.Target}
		r = exchange.Request{Request: put, Budget: b.budget}
		part, err = b.source.send(ctx, r, start, end, &p.sum)
	}
	if got, err := atStore(b, part, err); got != complete {
		return got, err
	}
	p.sums.Write(p.sum.Sum(nil))
	p.sent++
	b.session.offset = end
	arrived(b, end)
	return b.session.follow(a, nextBody)
}

// etag is the sum of all parts as object stores tell it: that of the sums, and how many they were.
func (p *partsUpload) etag() string { return fmt.Sprintf("%x-%d", p.sums.Sum(nil), p.sent) }
