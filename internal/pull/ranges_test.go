package pull_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/pull"
)

// refusesRanges are the ways to break the rules for ranges.
func refusesRanges() map[string]answer {
	return map[string]answer{
		"a refusal": says(416, ""), "another range": part(0, 1), "no Content-Range": says(206, ""),
		"the whole blob": whole(),
	}
}

// One node of many is stale where ranges were served before: three in a row are a habit.
func TestN47WrongAnswersAfterARange(t *testing.T) {
	for name, wrong := range refusesRanges() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fetched(part(0, 100))
			w.next()
			assert.Equal(t, anotherWay, w.verdict(wrong), "one")
			assert.Equal(t, anotherWay, w.verdict(wrong), "two")
			w.fetched(part(100, 200))
			w.next()
			assert.Equal(t, anotherWay, w.verdict(wrong), "the range between has begun a new row")
			assert.Equal(t, pieces.RangesServed, w.schedule.Ranges(0))
		})
	}
}

func TestN47ThirdWrongAnswerInARow(t *testing.T) {
	for name, wrong := range refusesRanges() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fetched(part(0, 100))
			w.next()
			for range 2 {
				assert.Equal(t, anotherWay, w.verdict(wrong))
			}
			want := tryAgain
			if wrong.status == 200 {
				want = stored
			}
			assert.Equal(t, want, w.verdict(wrong))
			assert.Equal(t, pieces.RangesIgnored, w.schedule.Ranges(0))
		})
	}
}

// The whole of a large blob costs more than another request for a range.
func TestN47LargeBlobIsAskedForARangeTwice(t *testing.T) {
	w := newWorld(t)
	w.size = largeSize
	w.begin(pieces.Range{Start: 100, End: 200})
	assert.Equal(t, anotherWay, w.verdict(says(416, "")))
	assert.Equal(t, tryAgain, w.verdict(says(416, "")))
	assert.Equal(t, permanently, w.verdict(says(416, "")))
	assert.Equal(t, []string{
		"registry.test bytes=100-199", "registry.test bytes=100-199", "registry.test",
	}, w.requests())
}

// A wrong answer to a range comes from a node that the next request should not meet.
func TestN47NewURLAfterAWrongAnswer(t *testing.T) {
	for name, wrong := range refusesRanges() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fetched(to("stale.test"), part(0, 100))
			w.next()
			assert.Equal(t, anotherWay, w.verdict(wrong))
			w.requests()
			w.fetched(to("fresh.test"), part(100, 200))
			assert.Equal(t, []string{
				"registry.test bytes=100-199", "fresh.test bytes=100-199",
			}, w.requests())
		})
	}
}

// A URL that was just made may lead to such a node too.
func TestN47NewURLAfterTheFirstWrongAnswer(t *testing.T) {
	for name, wrong := range refusesRanges() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fetched(part(0, 100))
			w.next()
			assert.Equal(t, anotherWay, w.verdict(to("stale.test"), wrong))
			w.requests()
			w.fetched(to("fresh.test"), part(100, 200))
			assert.Equal(t, "registry.test bytes=100-199", w.requests()[0])
		})
	}
}

// The rest of a piece is wanted of the blob that its beginning is of.
func TestN15RestOfAPieceIsConditional(t *testing.T) {
	for name, c := range map[string]struct{ tag, rest string }{
		"strong": {`"one"`, `registry.test bytes=60-99 if "one"`},
		"weak":   {`W/"one"`, `registry.test bytes=60-99`},
		"none":   {"", `registry.test bytes=60-99`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			assert.Equal(t, tryAgain, w.verdict(part(0, 100).with("ETag", c.tag).cut(60)))
			w.fetched(part(60, 100))
			w.next()
			w.fetched(part(100, 200))
			assert.Equal(t, []string{
				"registry.test bytes=0-99", c.rest, "registry.test bytes=100-199",
			}, w.requests(), "the digest judges pieces against each other")
		})
	}
}

// Nodes that disagree on the ETag serve ranges all the same.
func TestN47WholeBlobForAnotherETag(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, tryAgain, w.verdict(part(0, 100).with("ETag", `"one"`).cut(60)))
	assert.Equal(t, anotherWay, w.verdict(whole().with("ETag", `"two"`)))
	assert.Equal(t, tryAgain, w.verdict(part(60, 100).with("ETag", `"two"`).cut(10)))
	w.fetched(part(70, 100))
	assert.Equal(t, []string{
		"registry.test bytes=0-99", `registry.test bytes=60-99 if "one"`, "registry.test bytes=60-99",
		"registry.test bytes=70-99",
	}, w.requests())
	assert.Equal(t, pieces.RangesServed, w.schedule.Ranges(0))
}

// That the nodes disagree is no wrong answer to a range yet.
func TestN47ETagIsNoViolation(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, tryAgain, w.verdict(part(0, 100).with("ETag", `"one"`).cut(60)))
	assert.Equal(t, anotherWay, w.verdict(whole()))
	for range 2 {
		assert.Equal(t, anotherWay, w.verdict(says(416, "")))
	}
	w.fetched(part(60, 100))
}

// moving is a writer that can go on at another offset.
type moving struct {
	bytes.Buffer
	moves []int64
	err   error
}

func (m *moving) Move(off int64) error {
	m.moves = append(m.moves, off)
	return m.err
}

// The whole blob brings all that is missing, though some of it is there between.
func TestN10WholeBlobForItsGaps(t *testing.T) {
	w := newWorld(t, pieces.Range{Start: 50, End: 100}, pieces.Range{Start: 200, End: 220},
		pieces.Range{Start: 300, End: 400})
	w.answers = []answer{whole()}
	var got moving
	require.NoError(t, w.request.Fetch(t.Context(), &got))
	assert.Equal(t, content(50, 100)+content(200, 220)+content(300, 400), got.String())
	assert.Equal(t, []int64{200, 300}, got.moves)
	w.request.Piece.Finish()
	assert.True(t, w.schedule.Complete(0))
}

func TestN10WholeBlobBreaksOffInAGap(t *testing.T) {
	w := newWorld(t, pieces.Range{Start: 50, End: 100}, pieces.Range{Start: 200, End: 400})
	w.answers = []answer{whole().cut(150)}
	var got moving
	require.Error(t, w.request.Fetch(t.Context(), &got))
	assert.EqualValues(t, 200, w.request.Piece.Pos())
	broken := &moving{err: errDisk}
	w = newWorld(t, pieces.Range{Start: 50, End: 100}, pieces.Range{Start: 200, End: 400})
	w.answers = []answer{whole()}
	require.ErrorIs(t, w.request.Fetch(t.Context(), broken), errDisk)
}

// beside takes a piece beside the one that is fetched.
func (w *world) beside() *pull.PieceFetch {
	w.t.Helper()
	job, ok, err := w.schedule.Next(w.t.Context())
	require.NoError(w.t, err)
	require.True(w.t, ok)
	return w.fetchOf(job.Piece)
}

// A range is refused that was asked for before another worker had found out that ranges are.
func TestN47LateRefusalOfARange(t *testing.T) {
	w := newWorld(t)
	w.schedule.RangesServed(0, false)
	other := w.beside()
	refused := says(416, "")
	refused.before = func(*http.Request) {
		assert.Error(t, other.Fetch(t.Context(), io.Discard))
		other.Piece.Finish()
	}
	assert.Equal(t, tryAgain, w.verdict(refused, says(416, "")))
	w.requests()
	n, err := w.fetch(whole())
	require.NoError(t, err)
	assert.EqualValues(t, 400, n)
	assert.Equal(t, []string{"registry.test"}, w.requests())
}

// Of many requests, three in a row meet a node that is stale. The more ranges were served, the more it takes.
func TestN47ManyRangesWereServed(t *testing.T) {
	for name, wrong := range refusesRanges() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fetched(part(0, 100))
			w.next()
			w.fetched(part(100, 200))
			w.next()
			for range 3 {
				assert.Equal(t, anotherWay, w.verdict(wrong))
			}
			want := tryAgain
			if wrong.status == 200 {
				want = stored
			}
			assert.Equal(t, want, w.verdict(wrong))
			assert.Equal(t, pieces.RangesIgnored, w.schedule.Ranges(0))
		})
	}
}

// Requests that were under way together meet one event: their wrong answers are one in the row.
func TestN47WrongAnswersOfOneEvent(t *testing.T) {
	for name, wrong := range refusesRanges() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fetched(part(0, 100))
			w.next()
			one, other := w.beside(), w.beside()
			meets := func(p *pull.PieceFetch) func(*http.Request) {
				return func(*http.Request) {
					w.answers = append(w.answers, wrong)
					assert.Error(t, p.Fetch(t.Context(), io.Discard))
				}
			}
			first, second := wrong, wrong
			second.before = meets(other)
			first.before = func(*http.Request) {
				w.answers = append(w.answers, second)
				assert.Error(t, one.Fetch(t.Context(), io.Discard))
			}
			assert.Equal(t, anotherWay, w.verdict(first))
			assert.Equal(t, pieces.RangesServed, w.schedule.Ranges(0))
			assert.Equal(t, anotherWay, w.verdict(wrong), "two")
			assert.Equal(t, pieces.RangesServed, w.schedule.Ranges(0))
		})
	}
}
