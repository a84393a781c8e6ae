package push

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/retry"
)

const (
	// smallBody is the size up to which a blob is sent with the request that begins its upload, where the
	// registry takes that. A body of that size is also sent without being asked for: the question takes as
	// long as the body.
	smallBody = 1 << 20 // 1 MiB

	// A small blob is sent without a HEAD after manyAbsent in a row that the registry did not have. One in
	// probeAgain is asked about all the same.
	manyAbsent = 32
	probeAgain = 16

	// A mount that is not made costs a session that may not be needed.
	maxVainMounts = 2

	// Chunks begin at startChunk, shrink to minChunk where a registry or what is before it refuses them, and
	// grow to maxChunk.
	startChunk = 64 << 20  // 64 MiB
	minChunk   = 1 << 20   // 1 MiB
	maxChunk   = 256 << 20 // 256 MiB
)

// capabilities are what the answers of a registry have shown that it can do, so that it is not asked in vain
// again.
type capabilities struct {
	single   single
	asking   asking
	ollama   atomic.Bool  // it speaks the protocol of the Ollama registry
	direct   atomic.Bool  // it gives out URLs of its object store
	absent   atomic.Int32 // blobs in a row that it was asked about and did not have
	unprobed atomic.Int32 // blobs that it need not have been asked about
	chunk    *chunkSize

	patches  atomic.Bool // it has refused a whole body: all go with PATCH
	puts     atomic.Bool // it has refused every chunk, and takes the same with PUT
	unproven unproven
	mounts   mounts
	lead     lead
}

// asking is how a registry asks for a body that waits for that.
type asking struct {
	refused atomic.Bool // it, or what is before it, does not let a body wait
	never   atomic.Bool // it lets a body wait, but does not ask for it
	useful  atomic.Bool // it has sent a body elsewhere
}

// expects tells whether a body waits until it is asked for (RFC 9110 section 10.1.1), so that a 401 or a
// redirect does not cost it. Where nobody asks, each body would wait in vain, for as long as a client waits.
func (a *asking) expects(size int64) bool {
	if size == 0 || a.refused.Load() {
		return false
	}
	return a.useful.Load() || size > smallBody && !a.never.Load()
}

// unproven are blobs that are there by a HEAD without length and digest.
type unproven struct {
	mu    sync.Mutex // guards the field that follows
	blobs []digest.Digest
}

func (u *unproven) add(dg digest.Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.blobs = append(u.blobs, dg)
}

func (u *unproven) all() []digest.Digest {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.blobs)
}

// mounts is what is known of a registry's mounting.
type mounts struct {
	made   atomic.Bool  // it has mounted a blob
	trials atomic.Int32 // mounts that came first before it has
	vain   atomic.Int32 // mounts in a row that it did not make
}

// comeFirst tells whether a blob is mounted before the registry is asked whether it has it: unless
// maxVainMounts in a row were not made, and until one was made, for so many blobs only.
func (m *mounts) comeFirst() bool {
	return m.vain.Load() < maxVainMounts && (m.made.Load() || m.trials.Add(1) <= maxVainMounts)
}

// tried notes whether the registry has mounted a blob.
func (m *mounts) tried(made bool) {
	if made {
		m.made.Store(true)
		m.vain.Store(0)
	} else {
		m.vain.Add(1)
	}
}

// lead is what one blob shows the others: a registry that is told the digest may have them already, and its
// answers to an upload show whether it wants to be told, and how it wants bodies to be sent.
type lead struct {
	free  chan struct{} // has a value while nobody is that blob
	once  sync.Once
	shown chan struct{}
}

func (l *lead) init(taken bool) {
	l.free, l.shown = make(chan struct{}, 1), make(chan struct{})
	if !taken {
		l.pass()
	}
}

// show notes that an upload has shown what it can.
func (l *lead) show() { l.once.Do(func() { close(l.shown) }) }

// pass leaves it to another blob to show what there is.
func (l *lead) pass() {
	select {
	case l.free <- struct{}{}:
	default:
	}
}

// turn is that of one blob.
type turn struct {
	lead  *lead
	mine  bool // the others wait for this blob
	asked bool // for an upload
}

// await returns when an upload has shown what it can, or it is for this blob to show it. Meanwhile the blob
// does not try.
func (t *turn) await(ctx context.Context, budget *retry.Budget) error {
	if t.mine {
		return nil
	}
	budget.End()
	defer budget.Begin()
	select {
	case <-t.lead.shown:
		return nil
	case <-t.lead.free:
		t.mine = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// end lets the others go on after this blob. Where it has not begun its upload, one of them is the first.
func (t *turn) end() {
	switch {
	case !t.mine:
	case t.asked:
		t.lead.show()
	default:
		t.lead.pass()
	}
	t.mine = false
}

// single is whether a registry takes a blob with the request that begins its upload.
type single struct {
	tried atomic.Bool // with the first small blob
	taken atomic.Bool // it has taken one: a broken connection is how some refuse it
}

// try tells whether a blob goes with the request that begins its upload.
func (s *single) try(size int64) bool {
	return size > 0 && size <= smallBody && (s.taken.Load() || !s.tried.Swap(true))
}

// likelyAbsent tells whether a small blob need not be asked about: the registry had none of many before, and
// to send it costs hardly more.
func (c *capabilities) likelyAbsent() bool {
	return c.absent.Load() >= manyAbsent && c.unprobed.Add(1)%probeAgain != 0
}

// probed notes whether the registry had a blob.
func (c *capabilities) probed(there bool) {
	if there {
		c.absent.Store(0)
	} else {
		c.absent.Add(1)
	}
}
