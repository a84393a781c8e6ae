package reuse

import (
	"slices"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// move is from where to where the bytes of a tensor are copied. Tensors with the same move are copied
// together.
type move struct {
	source int
	shift  int64 // from where they are in the file to where they are in the source
	ok     bool
}

// move returns the move from one of the places of a tensor.
func (t *tensor) move(at place) move { return move{at.source, at.from - t.Start, true} }

// moves returns how each tensor is copied, if it is: from a place that agrees with a probe. One that was not
// probed is copied as both its neighbours are.
func (p *plan) moves() []move {
	moves := make([]move, len(p.tensors))
	for i := range p.tensors {
		if t := &p.tensors[i]; t.probed && len(t.places) > 0 {
			moves[i] = t.move(t.places[0])
		}
	}
	for i := 0; i < len(p.tensors); i++ {
		first := i
		for i < len(p.tensors) && !p.tensors[i].probed {
			i++
		}
		p.follow(moves, first, i)
	}
	return moves
}

// follow has the tensors from first on, which were not probed, copied as the tensors before and behind them.
func (p *plan) follow(moves []move, first, end int) {
	if first == end || first == 0 && end == len(moves) {
		return
	}
	var both move
	switch {
	case first == 0:
		both = moves[end]
	case end == len(moves), moves[first-1] == moves[end]:
		both = moves[first-1]
	}
	for i := first; i < end && both.ok; i++ {
		for _, at := range p.tensors[i].places {
			if p.tensors[i].move(at) == both {
				moves[i] = both
			}
		}
	}
}

// copies returns what is copied of what is missing.
func (p *plan) copies(missing []pieces.Range) (all []Copy) {
	moves := p.moves()
	for i := 0; i < len(moves); i++ {
		if !moves[i].ok {
			continue
		}
		m, r := moves[i], p.copied(i, moves[i])
		for i+1 < len(moves) && moves[i+1] == m && p.tensors[i+1].Start == r.End {
			i++
			r.End = p.copied(i, m).End
		}
		for len(missing) > 0 && missing[0].End <= r.Start {
			missing = missing[1:]
		}
		for _, gap := range missing {
			part := pieces.Range{Start: max(gap.Start, r.Start), End: min(gap.End, r.End)}
			if part.Len() <= 0 {
				break
			}
			all = append(all, Copy{part, m.source, part.Start + m.shift})
		}
	}
	return all
}

// worthwhile returns the copies but for short ones between two ranges that are fetched, which are at most
// budget bytes in all.
func worthwhile(all []Copy, fetched []pieces.Range, budget int64) []Copy {
	starts, ends := make(map[int64]bool), make(map[int64]bool)
	for _, r := range fetched {
		starts[r.Start], ends[r.End] = true, true
	}
	return slices.DeleteFunc(all, func(c Copy) bool {
		between := ends[c.Start] && starts[c.End] && c.Len() < leastCopy && c.Len() <= budget
		if between {
			budget -= c.Len()
		}
		return between
	})
}

// copied returns what is copied of a tensor with a move.
func (p *plan) copied(i int, m move) pieces.Range {
	t := &p.tensors[i]
	for _, at := range t.places {
		if t.move(at) == m {
			return pieces.Range{Start: t.Start, End: t.Start + at.size}
		}
	}
	return pieces.Range{}
}
