package push

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/events"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// item is what is pushed, and where.
type item struct {
	*Pusher
	digest digest.Digest
	size   int64
	budget *retry.Budget
	trace  *events.Blob // nil: nobody is told
	host   string       // that was asked last
}

// request is a request that has no body.
func (i *item) request(method string, t wire.Target) exchange.Request {
	i.host = t.URL.Host
	return exchange.Request{Request: wire.Request{Method: method, Target: t}, Budget: i.budget}
}

// beginning is the request that begins an upload.
func (i *item) beginning(query url.Values) exchange.Request {
	r := i.request(http.MethodPost, i.Registry.Uploads(i.Repository, query))
	r.Header = http.Header{"X-Redirect-Uploads": {"2"}, "X-Content-Length": {strconv.FormatInt(i.size, 10)}}
	return r
}

// existence is what a HEAD tells of a blob.
type existence int

const (
	absent   existence = iota // also where the registry will not tell: the upload will show
	believed                  // 200, and nothing speaks against it; OCI asks for no header
	proven                    // with its length or its digest
)

// exists asks whether the registry has the blob.
func (i *item) exists(ctx context.Context) (existence, error) {
	a, err := i.ask(ctx, i.request(http.MethodHead, i.Registry.Blob(i.Repository, i.digest)))
	switch {
	case err != nil:
		return absent, err
	case a.StatusCode == http.StatusOK:
		return i.existence(a)
	case a.ExistsBehindRedirect(i.digest):
		return proven, nil
	case !a.failed || a.refused():
		return absent, nil
	default:
		return absent, i.err(a)
	}
}

// existence judges a 200 to HEAD: some registries have a blob of another length, and a web page is none.
func (i *item) existence(a answer) (existence, error) {
	switch {
	case a.mismatch(i.digest) != nil:
		return absent, nil
	case a.ContentLength == i.size && i.size > 0: // an empty page has the length of an empty blob
		return proven, nil
	case a.webPage():
		return absent, a.unexpected("a blob")
	case a.ContentLength >= 0 && a.ContentLength != i.size:
		return absent, nil
	case a.digest() == i.digest:
		return proven, nil
	default:
		return believed, nil
	}
}
