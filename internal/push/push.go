// Package push brings one blob, or one manifest, into one repository.
//
// A blob's upload is a state machine. Each state makes one request, and the answer says what comes next:
//
//	state       request                answer                                  next state
//	probing     HEAD blob              200                                     done
//	                                   redirect to a store that refuses HEAD   done
//	                                   200 of another length or digest, 4xx    mounting, restoring, opening
//	mounting    POST ?mount&from       201                                     done
//	                                   202, or refused                         probing, then as above
//	restoring   GET session            how much it has                         sending
//	                                   more than there is, or refused          opening
//	opening     POST; small: and body  202 with a Location                     sending
//	                                   the same, of a registry that wants      opening
//	                                   the digest and was not told it
//	                                   201                                     done
//	                                   the body was refused                    opening
//	sending     whole:  PUT and body   as in committing
//	            chunks: PATCH          202                                     sending, then committing
//	                                   307 with Docker-Upload-Location         sending parts
//	            parts:  PATCH and PUT  2xx of the store                        sending, then committing
//	            direct: PUT            2xx of the store                        committing
//	committing  PUT                    201, or the right digest                done
//	                                   another digest                          error
//	                                   any other 2xx, or the body never left   confirming
//	confirming  HEAD blob              200 of the right length, or the digest  done
//	                                   not there, and the body never left      opening, for chunks
//	                                   not there                               error
//	recovering  HEAD blob, where the   200 of the right length, or the digest  done
//	            end may have arrived   not there, or not asked                 restoring, sending, opening
//
// A failure while bytes are sent or committed means, for each way to send:
//
//	answer                             whole         chunks          parts         direct
//	none, 5xx, 429 and their kin       recovering    recovering      recovering    recovering
//	none, though all was sent          recovering, and the next answer may take twice as long
//	413, 411                           chunks        smaller chunks  error         error
//	400, 405, 501                      chunks, once  see below       error         error
//	422                                error         see below       error         error
//	409, when ended for the second time: recovering, once
//	403, or 400 ExpiredToken: a store  again, once   again, once     again, once   opening, once
//	416 of a large blob                recovering, twice; then as the next row
//	404, 416, unknown or invalid       recovering, and opening unless the blob is there; three times
//	400 DIGEST_INVALID                 opening, once
//	any other                          error
//
// In doubt, which is wherever this table says "of the right length, or the digest", a bare 200 is none.
//
// A chunk that was refused, with 416 too, is another matter where the session is asked and has what it should:
// chunks of 4 MiB follow, then of 1 MiB, then the whole in a new session.
//
// One blob, a small one where there is one, goes before the others: what is learned from the answers to it costs
// one refusal, and no body. The others do what needs no body meanwhile.
//
// Recovering goes on with what a session lacks. The session of a large blob is asked how much it has, a small
// blob is sent in a new one, a part is sent again alone, and a direct upload that is complete is not sent
// again. Where a session was lost with a body that broke, the chunks that follow are smaller. Where all of a
// large blob was sent and no answer came, the session is asked until it has stopped growing.
package push

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/events"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sessions"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Config says where blobs are pushed, and how.
type Config struct {
	Exchange   *exchange.Exchange
	Registry   *wire.Registry
	Repository string
	Sessions   sessions.Store
	Log        *slog.Logger

	// First is a blob, of many the smallest, that is sent before the others are. Without one, or where the
	// registry has it, another is the first.
	First digest.Digest

	// Open opens the file of a blob.
	Open func(dg digest.Digest, size int64) (*os.File, error)

	// Moved is told of n bytes of a blob that have moved for the first time.
	Moved func(n int64)

	// KeepSize is the size from which on an upload session is left for a later call.
	KeepSize int64
}

// Pusher pushes into one repository. It is safe for concurrent use.
type Pusher struct {
	Config
	learned learned
	swept   sync.Once // of sessions that are too old
}

// New returns a pusher.
func New(c Config) *Pusher {
	p := &Pusher{Config: c}
	p.learned.chunk = pace.NewChunkSize(startChunk, minChunk, maxChunk)
	p.learned.first.init(c.First != "")
	return p
}

// state is what a blob's next request is for.
type state int

const (
	starting state = iota
	probing
	mounting
	restoring
	opening
	sending
	committing
	confirming
	recovering
	done
)

// Blob is one blob on its way to the registry. It is not safe for concurrent use.
type Blob struct {
	*item
	state    state
	first    bool     // the others wait for it
	asked    bool     // for an upload
	source   source   // its bytes
	session  session  // where they go
	way      way      // how they go
	presence presence // whether the registry has them already
	recovery recovery // what failures have led to
}

// Blob returns a blob that is to be pushed, mounted from another repository where from names some.
func (p *Pusher) Blob(dg digest.Digest, size int64, from []string, budget *retry.Budget) *Blob {
	it := &item{Pusher: p, digest: dg, size: size, budget: budget}
	b := &Blob{item: it, first: dg == p.First}
	b.source.item, b.session.item = it, it
	b.presence.blob, b.presence.from = b, from
	b.recovery.blob = b
	b.way = whole{b}
	return b
}

// Trace has the trace be told what happens to the blob, before the first attempt.
func (b *Blob) Trace(t *events.Blob) { b.trace = t }

// Host is the host that was asked last.
func (b *Blob) Host() string { return b.host }

// Again returns a blob that is to be sent though the registry says that it has it, because it has shown that
// it has not.
func (p *Pusher) Again(dg digest.Digest, size int64, budget *retry.Budget) *Blob {
	b := p.Blob(dg, size, nil, budget)
	b.presence.disproved = true
	b.source.told = true
	return b
}

// Attempt makes one request after another until the registry has the blob or one of them fails. The next
// attempt goes on from there. It tells whether bytes moved that had not moved before.
func (b *Blob) Attempt(ctx context.Context) (moved bool, err error) {
	b.budget.Attempt()
	defer b.source.room.Close()
	defer func() {
		if !retry.IsOtherWay(err) {
			b.goOn()
		}
	}()
	before := b.source.farthest.Load()
	for err == nil && b.state != done {
		b.state, err = b.step(ctx)
	}
	return b.source.farthest.Load() > before, err
}

// await has one blob be sent before the others are.
func (b *Blob) await(ctx context.Context) (err error) {
	if !b.first {
		b.first, err = b.learned.first.await(ctx, b.budget)
	}
	return err
}

// goOn lets the others go on after the first blob. Where that has not begun its upload, one of them is the first.
func (b *Blob) goOn() {
	if !b.first {
		return
	}
	b.first = false
	if b.asked {
		b.learned.first.show()
	} else {
		b.learned.first.pass()
	}
}

// step makes the request of the state, and returns the state that follows; with an error, that is where the
// next attempt begins.
func (b *Blob) step(ctx context.Context) (state, error) {
	switch b.state {
	case starting:
		if !b.presence.disproved {
			b.session.claim()
		}
		return b.presence.first(), nil
	case probing:
		return b.presence.probe(ctx)
	case mounting:
		return b.presence.mount(ctx)
	case restoring:
		return b.restore(ctx)
	case opening:
		return b.open(ctx)
	case sending:
		return b.way.send(ctx)
	case committing:
		return b.commit(ctx)
	case confirming:
		return b.presence.confirm(ctx)
	default:
		return b.recovery.recover(ctx)
	}
}

// Close ends the upload with the error that the attempts ended with, nil where the registry has the blob, and
// returns it. A session is deleted, so that the registry need not keep what it has, unless a later call may
// continue it.
func (b *Blob) Close(ctx context.Context, err error) error {
	b.goOn()
	err = errors.Join(err, b.source.close())
	if err == nil {
		b.session.saved.Close(false)
		b.source.report(b.size - b.source.farthest.Load())
		return nil
	}
	begun := b.session.foreign || b.source.farthest.Load() > 0
	lasts := b.session.saved.Holds() && b.session.lasts() && b.way.resumable()
	keep := begun && lasts && (ctx.Err() != nil || mayPass(err))
	b.session.saved.Close(keep)
	if !keep {
		b.session.drop(ctx)
	}
	return err
}

// mayPass tells whether a later call may do better with the same session: after a failure that passes, if too
// late for this call, and once a person has signed in.
func mayPass(err error) bool {
	return retry.Retryable(err) || errors.Is(err, retry.ErrExhausted) ||
		exchange.NeedsLogin(err) || errors.Is(err, errWebPage)
}
