package push

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/modeltransfer/transfer/internal/events"
	"github.com/modeltransfer/transfer/internal/retry"
)

// presence finds out whether the registry has a blob, or can have it without its bytes being sent.
type presence struct {
	blob      *Blob
	from      []string // where the blob may be mounted from, and was not tried to be
	probed    bool     // the registry was asked whether it has the blob
	disproved bool     // the registry says that it has the blob, and has not
	lost      bool     // the answer to a request was lost that may have brought the blob: HEAD must prove it
	doubt     error    // why an answer that may be a success is none, unless the registry has the blob
	unsent    bool     // the answer in doubt was given to a body that never left
}

// first returns the state that a blob begins in.
func (p *presence) first() state {
	if len(p.from) > 0 && p.blob.learned.mounts.comeFirst() {
		return mounting // where that is refused, it is asked after it whether the blob is there
	}
	p.probed = p.disproved || p.blob.size <= smallBody && p.blob.learned.likelyAbsent()
	return p.next()
}

// next returns the state in which a blob goes on that is not there, as far as is known.
func (p *presence) next() state {
	switch s := &p.blob.session; {
	case !p.probed:
		return probing
	case len(p.from) > 0:
		return mounting
	case s.isZero():
		return opening
	case s.earlier:
		return restoring
	default:
		return sending
	}
}

// recheck is the state after a failed request that may have brought the whole blob: it is asked about again.
func (p *presence) recheck() state {
	p.probed, p.lost = p.disproved, true
	return p.next()
}

// probe asks whether the registry has the blob.
func (p *presence) probe(ctx context.Context) (state, error) {
	found, err := p.blob.exists(ctx)
	if err != nil {
		return probing, err
	}
	there := found == proven || found == believed && !p.lost
	p.blob.learned.probed(there)
	if there {
		if found == believed {
			p.blob.learned.unproven.add(p.blob.digest)
		}
		p.blob.trace.Find(events.AtRegistry)
		p.blob.session.drop(ctx)
		return done, nil
	}
	p.probed = true
	return p.next(), nil
}

// mount has the blob mounted from another repository.
func (p *presence) mount(ctx context.Context) (state, error) {
	b := p.blob
	query := url.Values{"mount": {b.digest.String()}, "from": {p.from[0]}}
	told := b.tellDigest(query)
	r := b.beginning(query)
	r.Hint = true
	a, err := b.ask(ctx, r)
	switch {
	case err != nil && retry.Retryable(err):
		return p.recheck(), err // it may be mounted all the same
	case err != nil: // as where no token for the other repository can be had
		return p.notMounted(), nil
	case a.is(http.StatusCreated):
		if err := a.mismatch(b.digest); err != nil {
			return mounting, err
		}
		b.learned.mounts.tried(true)
		b.trace.Find(events.Mounted)
		b.session.drop(ctx)
		return done, nil
	case a.temporary():
		return p.recheck(), b.err(a)
	case a.is(http.StatusAccepted) && a.location() != "":
		return p.mountRefused(ctx, a, told)
	default:
		return p.notMounted(), nil
	}
}

// mountRefused goes on after a 202, which begins an upload instead. An earlier one has more of the blob, and
// one that wants to be told the digest might not have been needed.
func (p *presence) mountRefused(ctx context.Context, a answer, told bool) (state, error) {
	if p.blob.session.isZero() {
		err := p.blob.opened(a, told)
		if err == nil {
			p.blob.begin(ctx, mounting)
		}
		return p.notMounted(), err
	}
	if target, err := a.Target.Resolve(a.location()); err == nil {
		p.blob.session.delete(ctx, target)
	}
	return p.notMounted(), nil
}

// notMounted is where a blob goes on that was not mounted. It may still be there.
func (p *presence) notMounted() state {
	p.from = p.from[1:]
	p.blob.learned.mounts.tried(false)
	return p.next()
}

// stored judges an answer that says that the registry has the blob now.
func (p *presence) stored(a answer) (state, error) {
	if err := a.mismatch(p.blob.digest); err != nil {
		return committing, err
	}
	if a.whole() && (a.is(http.StatusCreated) || a.digest() == p.blob.digest) {
		return done, nil
	}
	p.doubt, p.unsent = a.unexpected("201"), !a.whole()
	return confirming, nil
}

// claimed judges a 201 to a request without a body, which claims that the registry has the blob already.
func (p *presence) claimed(a answer) (state, error) {
	next, err := p.stored(a)
	if next == done && p.blob.size > 0 && a.digest() != p.blob.digest {
		p.doubt = a.unexpected("202")
		return confirming, nil
	}
	return next, err
}

// confirm asks whether the registry has a blob after an answer that may be a success and may be none. A body
// that never left is sent in chunks.
func (p *presence) confirm(ctx context.Context) (state, error) {
	found, err := p.blob.exists(ctx)
	if err != nil {
		return confirming, err
	}
	if found == proven {
		return done, nil
	}
	if !p.unsent && errors.Is(p.doubt, errWebPage) {
		return recovering, p.doubt
	}
	p.blob.session.drop(ctx)
	if !p.unsent {
		return opening, p.doubt
	}
	p.blob.recovery.byChunks()
	return opening, retry.OtherWay(p.doubt)
}
