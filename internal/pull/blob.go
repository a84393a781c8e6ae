package pull

import (
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/events"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// maxViolations is how many answers in a row break the rules for ranges before that counts as the habit of a
// registry that has served a range of the blob. It is one more where twice as many were served.
const maxViolations = 3

// largeSize is the size from which on the whole blob costs more than to ask for a range once more.
const largeSize = 32 << 20 // 32 MiB

// Blob is a blob that is fetched, and what the answers for it have taught. It is safe for concurrent use.
type Blob struct {
	Digest digest.Digest
	Size   int64
	Index  int // of the scheduler
	Budget *retry.Budget
	Trace  *events.Blob // nil: nobody is told

	// Scattered says that ranges are fetched that are smaller than a piece, and not because they are the
	// rest of one. It is set before the first request.
	Scattered bool

	// SkipMirrors says that the bytes were wrong, perhaps a mirror's, or those of one connection.
	SkipMirrors atomic.Bool

	// TooLong says that the registry's blob is longer, so that nothing of it is worth keeping.
	TooLong atomic.Bool

	resolved atomic.Pointer[wire.Target] // where the registry's redirects led, for the requests that follow
	expired  atomic.Bool                 // a signed URL was refused, and no answer has brought bytes since
	ranges   rangeHistory
	mirrors  mirrorHistory
}

// mirrorHistory is what mirrors have answered about a blob.
type mirrorHistory struct {
	notFoundAt sync.Map // those that do not have it
	ignoredAt  sync.Map // those that do not serve ranges of it
}

// rangesIgnored tells whether a source does not serve ranges of the blob.
func (b *Blob) rangesIgnored(src *source) bool {
	if src.mirror {
		_, ignored := b.mirrors.ignoredAt.Load(src)
		return ignored
	}
	b.ranges.mu.Lock()
	defer b.ranges.mu.Unlock()
	return b.ranges.ignored
}

// rangeHistory is how the registry itself has answered requests for ranges of a blob.
type rangeHistory struct {
	mu         sync.Mutex // guards the fields that follow
	served     int        // ranges
	violations int        // in a row
	counted    int        // violations in all
	ignored    bool       // it does not serve ranges
	etag       string     // the last strong one
	noIfRange  bool       // its nodes disagree on the ETag
}

func (h *rangeHistory) serve() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.served, h.violations = h.served+1, 0
}

// now is what an attempt notes for violate when it asks.
func (h *rangeHistory) now() (counted int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counted
}

// violate notes an answer that broke the rules. Where no range was served before, so many in a row are a
// habit. Where some were, it takes more of them: of thousands of requests, several in a row meet a node that
// is stale. Of those that were under way together, one counts: one event breaks many. It tells whether a
// range is worth asking for again, and whether one was before this answer.
func (h *rangeHistory) violate(habit, asked int) (again, before bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before = !h.ignored
	if asked < h.counted {
		return before, before
	}
	h.counted++
	h.violations++
	if h.served > 0 {
		habit = maxViolations + bits.Len(uint(h.served)) - 1
	}
	if h.violations >= habit {
		h.ignored = true
	}
	return !h.ignored, before
}

// disagree notes that If-Range was answered with the whole blob. It tells whether ranges are served all the
// same.
func (h *rangeHistory) disagree() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noIfRange = true
	return h.served > 0
}

// tagged notes the ETag of an answer. A weak one is no use for ranges, RFC 9110 section 13.1.5.
func (h *rangeHistory) tagged(etag string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(etag, `"`) {
		h.etag = etag
	}
}

// ifRange returns the ETag that a range may be asked for with, empty where there is none.
func (h *rangeHistory) ifRange() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.noIfRange {
		return ""
	}
	return h.etag
}
