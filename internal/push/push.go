// Package push brings one blob, or one manifest, into one repository.
//
// A blob's upload is a state machine. Each state makes one request, and the answer says what comes next:
//
//	state       request                 answer                                    next state
//	probing     HEAD blob               200 of the right length or digest         done
//	                                    redirect to a store that refuses HEAD     done
//	                                    200 of another length, 404, other 4xx     mounting, restoring, opening
//	mounting    POST ?mount&from        201                                       done
//	                                    202                                       as after a 404 to HEAD
//	                                    refused                                   as after a 404 to HEAD
//	restoring   GET session             how much an earlier attempt has sent      sending the rest, committing
//	                                    refused, or more than there is            opening
//	opening     POST, small: with body  202 with Location                         sending
//	                                    201                                       done
//	                                    refused with body                         opening without
//	sending     whole:  PUT and body    201, or 2xx with the right digest         done
//	            chunks: PATCH           202                                       sending, committing
//	                                    307 with Docker-Upload-Location           sending as parts
//	            parts:  PATCH, PUT      2xx of the store                          sending, committing
//	            direct: PUT             2xx of the store                          committing
//	committing  PUT                     201, or 2xx with the right digest         done
//	confirming  HEAD blob               200 of the right length or digest         done
//	                                    absent, the body never left               opening, then chunks
//	                                    absent                                    protocol error
//	recovering  HEAD blob, if a commit  200 of the right length or digest         done
//	            may have arrived        absent                                    restoring, sending, opening
//
// While bytes are sent and committed, an answer that is no success means:
//
//	answer                              whole             chunks              parts         direct
//	no answer, 5xx, 429, ...            recovering        recovering          recovering    recovering
//	no answer though all was sent       recovering; the next may take twice as long
//	411, 413                            chunks            smaller chunks      error         error
//	403, 400 ExpiredToken of a store    once again        once again          once again    opening, once
//	404, upload unknown or invalid      opening           opening             opening       opening
//	416                                 recovering        recovering          opening       opening
//	400 DIGEST_INVALID                  opening, once     opening, once       opening, once opening, once
//	any other                           error             error               error         error
//
// After a fault, recovering is where the next attempt begins. It goes on by sending what a session lacks: a large
// blob's session is asked how much it has, a small blob is sent in a new one, parts and a direct upload that is
// complete are not sent again.
package push

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/opencontainers/go-digest"

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
}

// New returns a pusher.
func New(c Config) *Pusher {
	return &Pusher{Config: c, learned: learned{chunk: pace.NewChunkSize(startChunk, minChunk, maxChunk)}}
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
	*Pusher
	digest digest.Digest
	size   int64
	from   string // where it may be mounted from; empty once that was tried

	state   state
	source  *source
	session session
	way     way
	budget  *retry.Budget
	room    exchange.Room // for a body, kept where a URL is asked for that does not live long
	again   bool          // the registry has said that it has the blob, and has not
	memory  memory        // of what was tried
}

// memory is what was tried for a blob.
type memory struct {
	probed    bool  // the registry was asked whether it has the blob
	committed bool  // the request that ends the session may have arrived
	chunked   bool  // a whole body was refused, or broke
	parts     bool  // the registry has shown late that it wants parts
	overdue   int   // answers to whole bodies that did not come in time
	renewed   bool  // a store refused the body, and a new URL was asked for
	anew      bool  // the registry found another digest, and the blob was sent anew
	lost      int   // sessions in a row that the registry has forgotten
	doubt     error // why an answer that may be a success is none, unless the registry has the blob
	unsent    bool  // the answer in doubt was given to a body that never left
}

// Blob returns a blob that is to be pushed, mounted from another repository where from names one.
func (p *Pusher) Blob(dg digest.Digest, size int64, from string, budget *retry.Budget) *Blob {
	b := &Blob{Pusher: p, digest: dg, size: size, from: from, budget: budget}
	b.source = &source{blob: b}
	b.way = whole{b}
	return b
}

// Again returns a blob that is to be sent though the registry says that it has it, because it has shown that it has not.
func (p *Pusher) Again(dg digest.Digest, size int64, budget *retry.Budget) *Blob {
	b := p.Blob(dg, size, "", budget)
	b.again = true
	b.source.reported.Store(size)
	return b
}

// Attempt makes one request after another until the registry has the blob or one of them fails. The next attempt goes
// on from there. It tells whether bytes moved that had not moved before.
func (b *Blob) Attempt(ctx context.Context) (moved bool, err error) {
	b.budget.Attempt()
	defer b.room.Close()
	before := b.source.reported.Load()
	for err == nil && b.state != done {
		b.state, err = b.step(ctx)
	}
	return b.source.reported.Load() > before, err
}

// step makes the request of the state, and returns the state that follows; with an error, that is where the next
// attempt begins.
func (b *Blob) step(ctx context.Context) (state, error) {
	switch b.state {
	case starting:
		return b.start(), nil
	case probing:
		return b.probe(ctx)
	case mounting:
		return b.mount(ctx)
	case restoring:
		return b.restore(ctx)
	case opening:
		return b.open(ctx)
	case sending:
		return b.way.send(ctx)
	case committing:
		return b.commit(ctx)
	case confirming:
		return b.confirm(ctx)
	default:
		return b.recover(ctx)
	}
}

// start decides what is asked first.
func (b *Blob) start() state {
	b.claim()
	if b.from != "" {
		return mounting // where that is refused, it is asked after it whether the blob is there
	}
	b.memory.probed = b.again || b.size <= smallBody && b.learned.likelyAbsent()
	return b.next()
}

// next returns the state in which a blob goes on that is not there, as far as is known.
func (b *Blob) next() state {
	switch {
	case !b.memory.probed:
		return probing
	case b.from != "":
		return mounting
	case b.session.isZero():
		return opening
	case b.session.earlier:
		return restoring
	default:
		return sending
	}
}

// Close ends the upload with the error that the attempts ended with, nil where the registry has the blob, and returns it.
// A session is deleted, so that the registry need not keep what it has, unless a later call may continue it.
func (b *Blob) Close(ctx context.Context, err error) error {
	err = errors.Join(err, b.source.close())
	if err == nil {
		b.session.saved.Close(false)
		b.Moved(b.size - b.source.reported.Load())
		return nil
	}
	begun := b.session.earlier || b.source.reported.Load() > 0
	keep := begun && b.session.saved != nil && b.resumable() && (ctx.Err() != nil || retry.Retryable(err))
	b.session.saved.Close(keep)
	if !keep {
		b.drop(ctx)
	}
	return err
}
