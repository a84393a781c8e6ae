package pull_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer/internal/pieces"
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
