package push

import (
	"context"
	"net/http"
	"net/url"

	"github.com/modeltransfer/transfer/internal/events"
	"github.com/modeltransfer/transfer/internal/retry"
)

// existence is whether the registry has a blob, or can have it without its bytes being sent, as far as is
// known.
type existence struct {
	*item
	from   []string // repositories that the blob may be mounted from, and was not tried to be
	first  bool     // it is mounted before the registry is asked whether it has it
	probed bool     // the registry was asked whether it has the blob, or need not be
	lost   bool     // the answer to a request was lost that may have brought the blob: HEAD must prove it
	doubt  error    // why an answer that may be a success is none, unless the registry has the blob
	unread bool     // the answer in doubt was given to a body that never left
}

// begin finds out what to begin with.
func (e *existence) begin(from []string) {
	e.from = from
	e.first = len(from) > 0 && e.capabilities.mounts.comeFirst()
	e.probed = !e.first && e.size <= smallBody && e.capabilities.likelyAbsent()
}

// choose finds the cheapest way on with a blob that is not there, as far as is known.
func (b *Blob) choose(context.Context) (outcome, error) {
	e, s := &b.existence, &b.session
	switch {
	case e.first:
		e.first = false // where that is refused, it is asked whether the blob is there
		return mountable, nil
	case !e.probed:
		return unasked, nil
	case len(e.from) > 0:
		return mountable, nil
	case s.target.IsZero():
		return noSession, nil
	case s.earlier:
		return notAsked, nil
	default:
		return nextBody, nil
	}
}

// probe asks whether the registry has the blob.
func (b *Blob) probe(ctx context.Context) (outcome, error) {
	found, err := b.exists(ctx)
	if err != nil {
		return failed, err
	}
	has := found == proven || found == believed && !b.existence.lost
	b.capabilities.probed(has)
	if !has {
		b.existence.probed = true
		return absent, nil
	}
	if found == believed {
		b.capabilities.unproven.add(b.digest)
	}
	b.trace.Find(events.AtRegistry)
	return there, nil
}

// mount asks the registry to mount the blob from another repository.
func (b *Blob) mount(ctx context.Context) (outcome, error) {
	r, told := b.beginning(url.Values{"mount": {b.digest.String()}, "from": {b.existence.from[0]}})
	r.Hint = true
	a, err := b.ask(ctx, r)
	switch {
	case err != nil && retry.Retryable(err):
		return lost, err // it may be mounted all the same
	case err != nil: // as where no token for the other repository can be had
		return refused, nil
	case a.is(http.StatusCreated):
		if err := a.mismatch(b.digest); err != nil {
			return failed, err
		}
		b.capabilities.mounts.tried(true)
		b.trace.Find(events.Mounted)
		return there, nil
	case a.temporary():
		return lost, b.err(a)
	case a.begins():
		return b.session.instead(ctx, a, told)
	default:
		return refused, nil
	}
}

// stored says what an answer means which says that the registry has the blob now.
func (e *existence) stored(a answer) (outcome, error) {
	if err := a.mismatch(e.digest); err != nil {
		return failed, err
	}
	if a.whole() && (a.is(http.StatusCreated) || a.digest() == e.digest) {
		return stored, nil
	}
	e.doubt, e.unread = a.unexpected("201"), !a.whole()
	return doubtful, nil
}

// claimed says what a 201 to a request without a body means, which claims that the registry has the blob
// already.
func (e *existence) claimed(a answer) (outcome, error) {
	got, err := e.stored(a)
	if got == stored && e.size > 0 && a.digest() != e.digest {
		e.doubt, e.unread = a.unexpected("202"), false
		return doubtful, nil
	}
	return got, err
}

// confirm asks whether the registry has a blob after an answer that may be a success and may be none.
func (b *Blob) confirm(ctx context.Context) (outcome, error) {
	switch found, err := b.exists(ctx); {
	case err != nil:
		return failed, err
	case found == proven:
		return there, nil
	case b.existence.unread:
		return unread, b.existence.doubt
	default:
		return failed, b.existence.doubt
	}
}
