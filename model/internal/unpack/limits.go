package unpack

import (
	"strings"

	"github.com/modeltransfer/transfer/model/internal/limit"
	"github.com/modeltransfer/transfer/model/internal/names"
)

// Limits are those of package model that bound what files may become.
type Limits struct {
	Bytes        int64
	Files, Depth int
}

const (
	defaultFiles = 100_000
	defaultDepth = 64

	// nameBytes is how long paths may be on average, with what the record has beside them, because all are
	// kept in memory.
	nameBytes = 512

	// leastBytes and expansion make the default of Bytes. Text shrinks to a tenth; what shrinks to less than
	// a 64th is nothing but repetition.
	leastBytes = 64 << 20 // 64 MiB
	expansion  = 64
)

// withDefaults fills in what was left open. Fetched is the size of all blobs.
func (l Limits) withDefaults(fetched int64) Limits {
	if l.Bytes == 0 {
		l.Bytes = leastBytes + expansion*min(fetched, 1<<50)
	}
	if l.Files == 0 {
		l.Files = defaultFiles
	}
	if l.Depth == 0 {
		l.Depth = defaultDepth
	}
	return l
}

// within refuses more names than there may be.
func (l Limits) within(taken *names.Set) error {
	if most := l.withDefaults(0).Files; taken.Len() > most || taken.Size() > most*nameBytes {
		return &limit.Error{Limit: limit.Files, Most: int64(most)}
	}
	return nil
}

// claim gives entries their places in a set. What is in archives gets its place when it is known.
func (l Limits) claim(entries []Entry, folding bool) (*names.Set, error) {
	taken := &names.Set{Folding: folding}
	depth := l.withDefaults(0).Depth
	for _, e := range entries {
		switch {
		case strings.Count(e.Title, "/") >= depth:
			return nil, &limit.Error{Limit: limit.Depth, Most: int64(depth)}
		case !e.Archive:
			if err := taken.Add(e.Title, false); err != nil {
				return nil, err
			}
		}
	}
	for _, e := range entries {
		if !e.confined() {
			continue // its names need not begin with its title
		}
		if err := taken.Own(e.Title); err != nil {
			return nil, err
		}
	}
	return taken, nil
}

// budget is how much may still be written.
type budget struct{ left, most int64 }

// spend takes bytes from the budget.
func (b *budget) spend(n int64) error {
	if n < 0 || n > b.left {
		return &limit.Error{Limit: limit.Bytes, Most: b.most}
	}
	b.left -= n
	return nil
}
