package push

import (
	"context"
	"crypto/md5"
	"fmt"
	"hash"
	"io"
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

// direct sends the blob to a URL of the registry's object store.
type direct struct {
	*Blob
	target   wire.Target
	header   http.Header // signed with it
	complete bool        // the body is there
}

// newDirect sends the blob where an answer with a new session says.
func newDirect(b *Blob, a answer) (*direct, error) {
	header, err := wire.SignedHeaders(a.Header)
	if err != nil {
		return nil, retry.Permanent(fmt.Errorf("%w: %w", sentinel.ErrProtocol, err))
	}
	b.learned.ollama.Store(b.learned.ollama.Load() || a.Header.Get("Docker-Upload-Location") != "")
	b.learned.direct.Store(true)
	target, err := a.Target.Resolve(a.Header.Get("X-Direct-Upload-Url"))
	return &direct{Blob: b, target: target, header: header}, err
}

func (d *direct) send(ctx context.Context) (state, error) {
	r := d.request(http.MethodPut, d.target)
	r.Header = d.header.Clone()
	a, err := d.source.send(ctx, r, 0, d.size)
	switch {
	case err != nil:
		return recovering, err
	case a.failed:
		return d.recovery.judge(ctx, a)
	case !a.whole():
		return d.recovery.unsent(a)
	case a.webPage():
		return recovering, a.unexpected("200 of an object store")
	}
	d.complete = true
	d.recovery.taken(d.size)
	return committing, nil
}

func (d *direct) end() wire.Target { return whole{d.Blob}.end() }

// afterFault asks for a new URL, unless the body is there.
func (d *direct) afterFault(ctx context.Context) state {
	if d.complete {
		return committing
	}
	d.session.drop(ctx)
	return opening
}

func (*direct) smaller() way { return nil }

func (*direct) refused(context.Context, answer) (state, bool) { return 0, false }

func (*direct) resumable() bool { return false }

// parts sends the blob in parts, each to a URL of the registry's object store that the registry gives out for
// it.
type parts struct {
	*Blob
	size int64     // of all parts but the last
	sums hash.Hash // of the sums of the parts that were sent
	sum  hash.Hash // of the part that is being sent
	sent int       // how many
}

// newParts sends the blob in parts.
func newParts(b *Blob) *parts {
	b.learned.ollama.Store(true)
	return &parts{Blob: b, size: partSize(b.size), sums: md5.New(), sum: md5.New()}
}

// partSize returns the size of all parts but the last of a blob.
func partSize(blob int64) int64 { return min(max(blob/partCount, minPart), maxPart) }

func (p *parts) send(ctx context.Context) (state, error) {
	start := p.session.offset
	end := min(start+p.size, p.Blob.size)
	if start == end {
		return committing, nil
	}
	r := p.session.patch(start, end)
	r.Header.Set("X-Redirect-Uploads", "1")
	r.Body = func() (io.ReadCloser, error) { return p.body(ctx, start, end) }
	a, err := p.source.send(ctx, r, start, end)
	part := a
	if err == nil && wire.IsRedirect(a.StatusCode) {
		part, err = p.put(ctx, a, start, end)
		a.Header.Del("Location") // it was the part's
	}
	switch {
	case err != nil:
		return recovering, err
	case part.failed:
		return p.recovery.judge(ctx, part)
	case !part.whole():
		return p.recovery.unsent(part)
	case part.webPage():
		return recovering, part.unexpected("200 of an object store")
	}
	p.sums.Write(p.sum.Sum(nil))
	p.sent++
	p.session.offset = end
	p.recovery.taken(end)
	return sending, p.follow(a)
}

// put sends a part where the registry wants it.
func (p *parts) put(ctx context.Context, to answer, start, end int64) (answer, error) {
	target, err := to.Target.Resolve(to.Header.Get("Location"))
	if err != nil {
		return answer{}, err
	}
	r := exchange.Request{Request: wire.Request{
		Method: http.MethodPut, Target: target,
		Body: func() (io.ReadCloser, error) { return p.body(ctx, start, end) },
	}, Budget: p.budget}
	return p.source.send(ctx, r, start, end)
}

// body returns the bytes of a part, which are summed up as they are read.
func (p *parts) body(ctx context.Context, start, end int64) (io.ReadCloser, error) {
	body, err := p.source.body(ctx, start, end)
	if err != nil {
		return nil, err
	}
	p.sum = md5.New()
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(body, p.sum), body}, nil
}

// end tells the sum of all parts as object stores do: that of the sums, and how many they were.
func (p *parts) end() wire.Target {
	return whole{p.Blob}.end().WithQuery("etag", fmt.Sprintf("%x-%d", p.sums.Sum(nil), p.sent))
}

// afterFault sends the part that failed again, with a new URL.
func (p *parts) afterFault(context.Context) state { return sending }

func (*parts) smaller() way { return nil }

func (*parts) refused(context.Context, answer) (state, bool) { return 0, false }

func (*parts) resumable() bool { return false }
