// Package reuse finds out which bytes of a model file that is to be fetched are in files that are there, such
// as an earlier version of the model. It touches neither files nor the network: it says what to fetch and
// what to copy, and is asked again when that is done.
//
// All that it says is a guess, which the digest of the whole file decides. It goes like this:
//
//	stage      what is fetched                          what it tells
//	head       the head, until its table can be read    which tensors there are, and which are like them
//	scouting   a few probes: small ranges of tensors    whether anything is the same
//	surveying  a probe of each tensor, and both ends    which tensors are the same, and where
//	           of those that move together
//	surveyed   all that is not copied                   whether the digest is right; if it is not:
//	refining   more probes of what was copied, again    which of it was not the same
//	           where these have found something
//	refined    all that is not copied                   whether the digest is right; if it is not:
//	doubted    also the tensors of the vocabulary       whether the digest is right; if it is not:
//	over       all that was copied                      nothing any more
//
// A probe is a part of the file: nothing is fetched twice for it. Each takes a request, which costs more
// than its bytes: two neighbours share one where they meet, and what is small and lies between two ranges
// that are fetched is fetched with them.
package reuse

import (
	"errors"
	"io"
	"math/rand/v2"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/tensorfile"
)

// Source is a file that is there. Whatever happens to it, nothing worse comes of it than bytes that are
// fetched again.
type Source interface {
	io.ReaderAt

	// Tensors returns its table, empty where it has none.
	Tensors() []tensorfile.Tensor
}

// Copy is a range of the file whose bytes a source is believed to have.
type Copy struct {
	pieces.Range
	Source int
	From   int64 // where it has them
}

// Step is what is to be done next. After the last one the file is complete.
type Step struct {
	Fetch []pieces.Range
	Copy  []Copy
	Later []pieces.Range // what is missing and belongs to later steps
	Last  bool
}

// fetch returns a step that fetches only these ranges.
func fetch(missing, ranges []pieces.Range) Step {
	now := intersect(missing, ranges)
	return Step{Fetch: now, Later: subtract(missing, now)}
}

// stage is how far a procedure is: what the last step was for.
type stage int

const (
	head stage = iota
	scouting
	surveying
	surveyed
	refining
	refined
	doubted
	over // nothing is copied any more
)

const (
	// The first step fetches a 512th of the file, within these bounds. The table may need more, which is
	// asked for when that is known.
	headShare = 512
	leastHead = 64 << 10 // 64 KiB
	mostHead  = 4 << 20  // 4 MiB

	// maxRounds is how often more probes of what was copied are asked for before it is copied again.
	maxRounds = 2

	// maxHeadStep is how much of it is asked for at once after that.
	maxHeadStep = 8 << 20 // 8 MiB

	// A copy that is shorter than leastCopy and lies between two ranges that are fetched is fetched with
	// them: that takes less time than another request. What is fetched so is at most a joinShare of the
	// file.
	leastCopy = 64 << 10 // 64 KiB
)

// Procedure is how one file is put together. It is for one goroutine at a time.
type Procedure struct {
	size    int64
	sources []Source
	rand    *rand.Rand
	stage   stage
	rounds  int // of refining
	plan    *plan
	copied  bool // the last step was to copy something
}

// New returns the procedure for a file of that size. The seed decides where it is probed: a source that is
// made to look like the file must not know that.
func New(size int64, sources []Source, seed uint64) *Procedure {
	return &Procedure{size: size, sources: sources, rand: rand.New(rand.NewPCG(seed, uint64(size)))}
}

// Begin returns what is fetched first of what is missing.
func (p *Procedure) Begin(missing []pieces.Range) Step {
	n := min(max(p.size/headShare, leastHead), mostHead)
	return fetch(missing, []pieces.Range{{End: n}})
}

// Next returns the next step of a file of which what was to be fetched is there. Its steps may fetch nothing
// and copy nothing. After the last step it returns what is missing.
func (p *Procedure) Next(file io.ReaderAt, missing []pieces.Range) Step {
	for {
		if step, ok := p.next(file, missing); ok {
			return step
		}
	}
}

// Mismatch says that the digest of the file was wrong after the last step, so that what was copied is
// missing. It is false where nothing was.
func (p *Procedure) Mismatch() bool {
	if !p.copied {
		return false
	}
	switch {
	case p.stage == surveyed:
		p.refine()
	case p.stage == refined:
		p.doubt()
	default:
		p.stage = over
	}
	return true
}

// next returns the next step, and false where the stage has only changed.
func (p *Procedure) next(file io.ReaderAt, missing []pieces.Range) (Step, bool) {
	switch p.stage {
	case head:
		return p.readHead(file, missing)
	case scouting, surveying, refining:
		if step := fetch(missing, p.plan.pending()); len(step.Fetch) > 0 {
			return step, true
		}
		p.judge(file)
		return Step{}, false
	default:
		return p.last(missing), true
	}
}

// readHead makes the plan, or asks for more of the head.
func (p *Procedure) readHead(file io.ReaderAt, missing []pieces.Range) (Step, bool) {
	have := p.size
	if len(missing) > 0 {
		have = missing[0].Start
	}
	want, err := tensorfile.Read(file, have, p.size)
	if short, ok := errors.AsType[*tensorfile.ShortError](err); ok {
		// A vocabulary is asked for in large steps.
		upTo := max(short.Need, have+min(max(have, leastHead), maxHeadStep))
		return fetch(missing, []pieces.Range{{End: upTo}}), true
	}
	p.stage = over
	if err == nil {
		if p.plan = newPlan(want, p.sources, p.size, p.rand); p.plan != nil {
			p.stage = scouting
		}
	}
	return Step{}, false
}

// judge compares the probes, which are there now, and goes on to the next stage.
func (p *Procedure) judge(file io.ReaderAt) {
	refuted, agreed := p.plan.judge(file, p.sources)
	switch {
	case agreed == 0:
		p.stage = over
	case p.stage == scouting:
		p.plan.survey()
		p.stage = surveying
	case p.stage == surveying:
		p.stage = surveyed
	case refuted > 0 && p.rounds < maxRounds:
		p.refine()
	case refuted > 0 || p.rounds > 1:
		p.stage = refined
	default:
		p.doubt()
	}
}

// refine has more of what was copied compared, again where that has found something.
func (p *Procedure) refine() {
	p.stage = refining
	if p.rounds++; !p.plan.refine() {
		p.doubt()
	}
}

// doubt takes the tensors of the vocabulary out of what is copied: few rows of them may have changed, which
// no probe has met.
func (p *Procedure) doubt() {
	p.stage = doubted
	p.plan.dropLongest()
}

// last returns the step after which the file is complete.
func (p *Procedure) last(missing []pieces.Range) Step {
	s := Step{Last: true, Fetch: missing}
	p.copied = false
	if p.stage == over {
		return s
	}
	s.Copy = p.plan.copies(missing)
	s.Copy = worthwhile(s.Copy, s.rest(missing), p.size/joinShare)
	s.Fetch = s.rest(missing)
	p.copied = len(s.Copy) > 0
	return s
}

// rest returns what is missing and not copied.
func (s *Step) rest(missing []pieces.Range) []pieces.Range {
	copied := make([]pieces.Range, len(s.Copy))
	for i, c := range s.Copy {
		copied[i] = c.Range
	}
	return subtract(missing, copied)
}
