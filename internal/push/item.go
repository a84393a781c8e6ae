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

	disproved bool // the registry says that it has the blob, and has not
}

// Trace tells a trace what happens to the blob. It is called before the first attempt.
func (i *item) Trace(t *events.Blob) { i.trace = t }

// Host is the host that was asked last.
func (i *item) Host() string { return i.host }

// request is a request that has no body.
func (i *item) request(method string, t wire.Target) exchange.Request {
	i.host = t.Host()
	return exchange.Request{Request: wire.Request{Method: method, Target: t}, Budget: i.budget}
}

// beginning is the request that begins an upload. It tells the digest where the query does, or the registry
// wants it.
func (i *item) beginning(query url.Values) (r exchange.Request, told bool) {
	if i.wantsDigest() {
		query.Set("digest", i.digest.String())
	}
	r = i.request(http.MethodPost, i.Registry.Uploads(i.Repository, query))
	r.Header = http.Header{"X-Redirect-Uploads": {"2"}, "X-Content-Length": {strconv.FormatInt(i.size, 10)}}
	return r, query.Has("digest")
}

// wantsDigest tells whether the registry may have the blob without its bytes, once it is told the digest, as
// the Ollama registry, which mounts what it has in other repositories. Others take a request that tells it
// for a blob of no bytes. One that has said so in vain would say it again.
func (i *item) wantsDigest() bool { return i.capabilities.ollama.Load() && !i.disproved }

// evidence is what a HEAD tells of a blob.
type evidence int

const (
	none     evidence = iota // also where the registry will not tell: the upload will show
	believed                 // 200, and nothing speaks against it; OCI asks for no header
	proven                   // with its length or its digest
)

// exists asks whether the registry has the blob.
func (i *item) exists(ctx context.Context) (evidence, error) {
	a, err := i.ask(ctx, i.request(http.MethodHead, i.Registry.Blob(i.Repository, i.digest)))
	switch {
	case err != nil:
		return none, err
	case a.StatusCode == http.StatusOK:
		return i.evidence(a)
	case a.ExistsBehindRedirect(i.digest):
		return proven, nil
	case !a.failed || a.refused():
		return none, nil
	default:
		return none, i.err(a)
	}
}

// evidence judges a 200 to HEAD: a registry may have a blob of another length (distribution#2168), and a web
// page is none.
func (i *item) evidence(a answer) (evidence, error) {
	switch {
	case a.mismatch(i.digest) != nil:
		return none, nil
	case a.ContentLength == i.size && i.size > 0: // an empty page has the length of an empty blob
		return proven, nil
	case a.webPage():
		return none, a.unexpected("a blob")
	case a.ContentLength >= 0 && a.ContentLength != i.size:
		return none, nil
	case a.digest() == i.digest:
		return proven, nil
	default:
		return believed, nil
	}
}
