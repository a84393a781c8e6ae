package push

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/modeltransfer/transfer/internal/retry"
)

// probe asks whether the registry has the blob.
func (b *Blob) probe(ctx context.Context) (state, error) {
	there, err := b.exists(ctx)
	if err != nil {
		return probing, err
	}
	b.learned.probed(there)
	if there {
		b.drop(ctx)
		return done, nil
	}
	b.memory.probed = true
	return b.next(), nil
}

// exists tells whether the registry has the blob, with the right length. Where it will not tell, the upload will show.
func (b *Blob) exists(ctx context.Context) (bool, error) {
	a, err := b.ask(ctx, b.request(http.MethodHead, b.Registry.Blob(b.Repository, b.digest)))
	if err != nil {
		return false, err
	}
	switch {
	case a.StatusCode == http.StatusOK:
		return b.same(a)
	case a.Target.Left && a.is(http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented):
		return b.leadsToBlob(ctx, a)
	case !a.failed || a.refused():
		return false, nil
	default:
		return false, b.err(a)
	}
}

// same tells whether a 200 to HEAD is about the blob and all of it: some registries have a blob of another length, and
// a web page is none.
func (b *Blob) same(a answer) (bool, error) {
	switch {
	case a.ContentLength == b.size:
		return !a.webPage() || a.digest() == b.digest || b.size > 0, nil
	case a.webPage():
		return false, a.unexpected("a blob")
	default:
		return a.ContentLength < 0 && a.digest() == b.digest, nil
	}
}

// leadsToBlob tells whether the registry has a blob though the object store that it redirects to refuses HEAD: a URL may
// be signed for GET alone. The redirect says so, where it is a registry's and not that of a captive portal.
func (b *Blob) leadsToBlob(ctx context.Context, a answer) (bool, error) {
	if strings.Contains(a.Target.URL.String(), b.digest.Encoded()) {
		return true, nil
	}
	r := b.request(http.MethodHead, b.Registry.Blob(b.Repository, b.digest))
	r.NoFollow = true
	hop, err := b.ask(ctx, r)
	if err != nil {
		return false, err
	}
	return hop.digest() == b.digest || hop.Header.Get("Docker-Distribution-Api-Version") != "", nil
}

// mount has the blob mounted from another repository.
func (b *Blob) mount(ctx context.Context) (state, error) {
	r := b.beginning(url.Values{"mount": {b.digest.String()}, "from": {b.from}})
	a, err := b.ask(ctx, r)
	switch {
	case err != nil && retry.Retryable(err):
		return b.recheck(), err // it may be mounted all the same
	case err != nil: // as where no token for the other repository can be had
		return b.notMounted(), nil
	case a.is(http.StatusCreated):
		if err := a.mismatch(b.digest); err != nil {
			return mounting, err
		}
		b.drop(ctx)
		return done, nil
	case a.temporary():
		return b.recheck(), b.err(a)
	case a.is(http.StatusAccepted) && a.location() != "":
		return b.mountRefused(ctx, a)
	default:
		return b.notMounted(), nil
	}
}

// mountRefused goes on after a 202, which begins an upload instead. An earlier one has more of the blob.
func (b *Blob) mountRefused(ctx context.Context, a answer) (state, error) {
	if !b.session.isZero() {
		if target, err := a.Target.Resolve(a.location()); err == nil {
			b.abort(ctx, target)
		}
		return b.notMounted(), nil
	}
	if err := b.opened(a); err != nil {
		return b.notMounted(), err
	}
	return b.notMounted(), nil
}

// notMounted is where a blob goes on that was not mounted. It may still be there.
func (b *Blob) notMounted() state {
	b.from = ""
	return b.next()
}

// recheck is where a blob goes on of which a request may have arrived that was all.
func (b *Blob) recheck() state {
	b.memory.probed = b.again
	return b.next()
}

// confirm asks whether the registry has a blob after an answer that may be a success and may be none.
func (b *Blob) confirm(ctx context.Context) (state, error) {
	there, err := b.exists(ctx)
	if err != nil {
		return confirming, err
	}
	if there {
		return done, nil
	}
	b.drop(ctx)
	doubt := b.memory.doubt
	if !b.memory.unsent || b.memory.chunked {
		return opening, doubt
	}
	b.memory.chunked, b.memory.unsent, b.memory.committed = true, false, false
	return opening, retry.OtherWay(doubt)
}

// stored judges an answer that says that the registry has the blob now.
func (b *Blob) stored(a answer) (state, error) {
	if err := a.mismatch(b.digest); err != nil {
		return committing, err
	}
	if a.whole() && (a.is(http.StatusCreated) || a.digest() == b.digest) {
		return done, nil
	}
	b.memory.doubt, b.memory.unsent = a.unexpected("201"), !a.whole()
	return confirming, nil
}
