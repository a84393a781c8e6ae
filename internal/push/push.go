// Package push brings one blob, or one manifest, into one repository.
//
// A blob's upload is a state machine. Each state makes a request:
//
//	choosing    none: the cheapest way on is taken
//	probing     HEAD blob
//	mounting    POST ?mount&from
//	restoring   GET session, which tells how much it has
//	opening     POST, of a small blob with its bytes
//	sending     whole:  PUT session, with all bytes
//	            chunks: PATCH session, and again where that leads
//	            direct: PUT to the object store
//	            parts:  PATCH session, and PUT where that leads
//	committing  PUT session, without bytes; not after whole
//	confirming  HEAD blob, to settle a doubt
//	recovering  HEAD blob, where the request that ends the session may have arrived
//
// What came of the request is classified once, as one of the outcomes of table.go, which says what statuses
// they are. The table tells what is done about it, which state is next, and whether the attempt goes on, is
// made again for what another way may mend, or fails. While bytes are sent and committed, it goes by the mode
// of the bodies; bodies are all four. For an outcome that is not in it, the attempt fails and the state
// stays.
//
//	at                                                  outcome        action        next        attempt
//	choosing                                            unasked        -             probing     goesOn
//	choosing                                            mountable      -             mounting    goesOn
//	choosing recovering                                 noSession      -             opening     goesOn
//	choosing recovering                                 notAsked       -             restoring   goesOn
//	choosing restoring opening chunks parts recovering  nextBody       -             sending     goesOn
//	recovering                                          anew           dropSession   opening     goesOn
//	probing mounting                                    there          dropSession   done        goesOn
//	probing                                             absent         -             choosing    goesOn
//	mounting                                            refused        nextMount     choosing    goesOn
//	mounting opening                                    lost           recheck       choosing    fails
//	restoring                                           growing        -             restoring   again
//	restoring                                           forgotten      leaveSession  recovering  goesOn
//	restoring                                           away           dropSession   opening     fails
//	opening chunks                                      misbegun       dropSession   opening     goesOn
//	opening                                             refused        withoutBody   opening     goesOn
//	opening bodies                                      stored         -             done        goesOn
//	opening bodies                                      doubtful       -             confirming  goesOn
//	confirming                                          unread         chunkAnew     opening     again
//	confirming recovering                               there          -             done        goesOn
//	chunks direct parts recovering                      complete       -             committing  goesOn
//	bodies                                              lost           -             recovering  fails
//	bodies                                              timedOut       awaitDigest   recovering  fails
//	whole                                               tooLarge late  useChunks     recovering  again
//	whole                                               tooLarge       useChunks     sending     goesOn
//	chunks                                              tooLarge late  shrinkChunks  recovering  again
//	chunks                                              tooLarge       shrinkChunks  sending     goesOn
//	whole chunks                                        expired late   noteRenewal   recovering  again
//	whole chunks                                        expired        noteRenewal   sending     again
//	direct parts                                        expired        renewURL      recovering  again
//	bodies                                              conflict       noteConflict  recovering  again
//	whole                                               unfit late     patchAnew     opening     goesOn
//	whole                                               unfit          usePatch      sending     goesOn
//	chunks                                              unfit          suspectSize   recovering  goesOn
//	chunks                                              stepped        suspectStep   recovering  goesOn
//	chunks                                              unfitAll       usePut        recovering  goesOn
//	bodies                                              outOfStep      noteRestart   recovering  again
//	bodies                                              unknown        restart       recovering  again
//	bodies                                              otherDigest    resend        opening     again
//	chunks direct parts                                 unread         unexpect      recovering  again
//
// In doubt, a 200 to HEAD counts with the right length or the digest only.
//
// One blob, a small one where there is one, goes before the others: what is learned from the answers to it
// costs one refusal, and no body. The others do what needs no body meanwhile.
//
// The session of a large blob is asked how much it has, a small blob is sent in a new one, a part is sent
// again alone, and a direct upload that is complete is not sent again. Where a session was lost with a body
// that broke, the chunks that follow are smaller. Where all of a large blob was sent and no answer came, the
// session is asked until it has stopped growing. A chunk that was refused though the session has what it
// should is followed by chunks of 4 MiB, then of 1 MiB, then by the whole in a new session.
package push

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/exchange"
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
	capabilities capabilities
	swept        sync.Once // of sessions that are too old
}

// New returns a pusher.
func New(c Config) *Pusher {
	p := &Pusher{Config: c}
	p.capabilities.chunk = newChunkSize(startChunk, minChunk, maxChunk)
	p.capabilities.lead.init(c.First != "")
	return p
}

// Blob is one blob on its way to the registry. It is not safe for concurrent use.
type Blob struct {
	*item
	state     place
	bodyMode  place     // of the last body
	turn      turn      // to send one
	source    source    // its bytes
	session   session   // where they go
	existence existence // whether the registry has them already
	refusals  refusals  // what the registry does not take of it
	tried     tried     // what is not done for ever
	growth    growth    // of its session
	ending    ending    // of its session
}

// Blob returns a blob that is to be pushed, and goes on with the session that an earlier call has left. It is
// mounted where that can be: from names models, as their users wrote them, that may have it.
func (p *Pusher) Blob(dg digest.Digest, size int64, from []string, budget *retry.Budget) *Blob {
	b := p.blob(dg, size, budget)
	b.session.claim()
	b.existence.begin(repositories(p.Registry.Host(), from))
	return b
}

// Again returns a blob that is to be sent though the registry says that it has it, because it has shown that
// it has not.
func (p *Pusher) Again(dg digest.Digest, size int64, budget *retry.Budget) *Blob {
	b := p.blob(dg, size, budget)
	b.disproved, b.existence.probed = true, true
	b.source.counted = true
	return b
}

func (p *Pusher) blob(dg digest.Digest, size int64, budget *retry.Budget) *Blob {
	it := &item{Pusher: p, digest: dg, size: size, budget: budget}
	return &Blob{
		item: it, state: choosing, turn: turn{lead: &p.capabilities.lead, mine: dg == p.First},
		source: source{item: it}, session: session{item: it}, existence: existence{item: it},
		refusals: refusals{item: it},
	}
}

// Attempt makes one request after another until the registry has the blob or one of them fails. The next
// attempt goes on from there. It tells whether bytes moved that had not moved before.
func (b *Blob) Attempt(ctx context.Context) (moved bool, err error) {
	b.budget.Attempt()
	defer b.source.slot.Close()
	defer func() {
		if !retry.IsOtherWay(err) {
			b.turn.end()
		}
	}()
	before := b.source.farthest.Load()
	for err == nil && b.state != done {
		err = b.step(ctx)
	}
	return b.source.farthest.Load() > before, err
}

// requests are what makes the request of each state.
var requests = map[place]func(*Blob, context.Context) (outcome, error){
	choosing: (*Blob).choose, probing: (*Blob).probe, mounting: (*Blob).mount,
	restoring: (*Blob).restore, opening: (*Blob).open, sending: (*Blob).send,
	committing: (*Blob).commit, confirming: (*Blob).confirm, recovering: (*Blob).recover,
}

// errNoRule is an outcome that no row of the table is for, though it is no failure.
var errNoRule = retry.Permanent(errors.New("the upload cannot go on"))

// step makes the request of the state, and does what the table says of its outcome. Where it says nothing,
// the attempt fails, and the state stays.
func (b *Blob) step(ctx context.Context) error {
	got, err := requests[b.state](b, ctx)
	at := b.state
	if at == sending || at == committing {
		at = b.bodyMode
	}
	r, ok := ruleOf(at, got)
	if !ok {
		return cmp.Or(err, errNoRule)
	}
	if r.do != nil {
		r.do(ctx, b, err)
	}
	switch b.state = r.next; {
	case r.attempt == again:
		return retry.OtherWay(err)
	case r.attempt == fails:
		return err
	case err != nil:
		b.Log.LogAttrs(ctx, slog.LevelDebug, "refused, going on another way",
			slog.String("digest", b.digest.String()), slog.Any("error", err))
	}
	return nil
}

// Close ends the upload with the error that the attempts ended with, nil where the registry has the blob, and
// returns it. A session is deleted, so that the registry need not keep what it has, unless a later call may
// continue it.
func (b *Blob) Close(ctx context.Context, err error) error {
	b.turn.end()
	err = errors.Join(err, b.source.close())
	if err == nil {
		b.session.saved.Close(false)
		b.source.report(b.size - b.source.farthest.Load())
		return nil
	}
	begun := b.session.foreign || b.source.farthest.Load() > 0
	lasts := b.session.saved.Holds() && b.session.lasts()
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
