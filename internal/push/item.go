package push

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/opencontainers/go-digest"

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
}

// request is a request that has no body.
func (i *item) request(method string, t wire.Target) exchange.Request {
	return exchange.Request{Request: wire.Request{Method: method, Target: t}, Budget: i.budget}
}

// beginning is the request that begins an upload.
func (i *item) beginning(query url.Values) exchange.Request {
	r := i.request(http.MethodPost, i.Registry.Uploads(i.Repository, query))
	r.Header = http.Header{"X-Redirect-Uploads": {"2"}, "X-Content-Length": {strconv.FormatInt(i.size, 10)}}
	return r
}

// exists tells whether the registry has the blob, with the right length. Where it will not tell, the upload
// will show.
func (i *item) exists(ctx context.Context) (bool, error) {
	a, err := i.ask(ctx, i.request(http.MethodHead, i.Registry.Blob(i.Repository, i.digest)))
	switch {
	case err != nil:
		return false, err
	case a.StatusCode == http.StatusOK:
		return i.same(a)
	case a.ExistsBehindRedirect(i.digest):
		return true, nil
	case !a.failed || a.refused():
		return false, nil
	default:
		return false, i.err(a)
	}
}

// same tells whether a 200 to HEAD is about the blob and all of it: some registries have a blob of another
// length, and a web page is none.
func (i *item) same(a answer) (bool, error) {
	switch {
	case a.ContentLength == i.size && i.size > 0: // anything may have nothing
		return true, nil
	case a.webPage():
		return false, a.unexpected("a blob")
	default:
		return (a.ContentLength < 0 || a.ContentLength == i.size) && a.digest() == i.digest, nil
	}
}
