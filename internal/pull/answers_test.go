package pull_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// outcome is what an answer to a range comes to.
type outcome struct {
	stored int64
	means  string
	is     error  // that the error matches, where not nil
	then   string // the Range of the next attempt
}

// The second hundred bytes of a blob are asked for, of which no range has come before.
func TestWhatAnAnswerToARangeMeans(t *testing.T) {
	var (
		taken    = outcome{stored: 100, means: stored}
		violated = outcome{means: tryAgain, is: sentinel.ErrProtocol} // and the blob is asked for as a whole
		later    = outcome{means: tryAgain, then: " bytes=100-199"}
		never    = outcome{means: permanently}
		wrong    = outcome{means: permanently, is: sentinel.ErrProtocol}
		resized  = outcome{means: permanently, is: sentinel.ErrSizeMismatch}
		// A hundred bytes were promised, and sixty came.
		broken = outcome{stored: 60, means: tryAgain, then: " bytes=160-199"}
		short  = outcome{stored: 60, means: tryAgain, is: sentinel.ErrSizeMismatch, then: " bytes=160-199"}
	)
	requested := func(a answer) answer { return a.with("Content-Range", "bytes 100-199/400") }
	for name, c := range map[string]struct {
		answer answer
		outcome
	}{
		"the range":                 {part(100, 200), taken},
		"more than the range":       {part(100, 300), taken},
		"a size that is not told":   {part(100, 200).with("Content-Range", "bytes 100-199/*"), taken},
		"N2 an end that is early":   {part(100, 200).cut(60), broken},
		"N3 an end without length":  {requested(part(100, 160)).unsized(), short},
		"N6 a blob of another size": {says(200, content(0, 399)), resized},
		"N10 the whole blob":        {whole(), outcome{stored: 300, means: stored}},
		"N11 another range":         {part(0, 100), violated},
		"N11 too early a range":     {part(99, 200), violated},
		"N11 less than the range":   {part(100, 199), violated},
		"N11 of another size":       {partOf(401, 100, 200), violated},
		"N12 no Content-Range":      {says(206, content(100, 200)), violated},
		"N12 junk":                  {part(100, 200).with("Content-Range", "bytes soon"), violated},
		"N14 a refusal":             {says(416, ""), violated},
		"N17 a content coding":      {part(100, 200).with("Content-Encoding", "br"), wrong},
		"N20 unavailable":           {says(503, ""), later},
		"N21 not found":             {says(404, ""), never},
		"U15 a web page":            {says(200, "<html>").with("Content-Type", "text/html"), wrong},
		"U23 RequestTimeout":        {says(400, "<Error><Code>RequestTimeout</Code></Error>"), later},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pieces.Range{Start: 100, End: 400})
			n, err := w.fetch(c.answer)
			assert.Equal(t, c.stored, n)
			assert.Equal(t, c.means, verdictOf(err))
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
			if c.means == tryAgain {
				w.requests()
				_, _ = w.fetch(says(http.StatusNotFound, ""))
				assert.Equal(t, []string{"registry.test" + c.then}, w.requests())
			}
		})
	}
}

// A registry that ignores ranges gives one worker all that follows its piece and nobody has taken.
func TestN10WholeBlobForItsBeginning(t *testing.T) {
	w := newWorld(t)
	w.fetched(whole())
	assert.Equal(t, int64(400), w.request.Piece.Pos())
	assert.Equal(t, pieces.RangesIgnored, w.schedule.Ranges(0))
}

// The whole blob breaks off. What it had brought is not written again when the rest is the whole blob too.
func TestN10WholeBlobForItsRest(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, tryAgain, w.verdict(whole().cut(150)))
	n, err := w.fetch(whole())
	require.NoError(t, err)
	assert.Equal(t, int64(250), n)
	assert.Equal(t, []string{"registry.test bytes=0-99", "registry.test"}, w.requests())
}

// A registry that has never served a range ignores If-Range with it.
func TestN10WholeBlobForItsConditionalRest(t *testing.T) {
	w := newWorld(t)
	w.size = 50
	w.begin()
	beginning := says(200, content(0, 50)).with("ETag", `"one"`).cut(20)
	assert.Equal(t, tryAgain, w.verdict(beginning))
	w.fetched(says(200, content(0, 50)))
	assert.Equal(t, []string{"registry.test", `registry.test bytes=20-49 if "one"`}, w.requests())
}

// A blob that was asked for as a whole may be fetched in pieces where the registry says that it serves
// ranges.
func TestAcceptRanges(t *testing.T) {
	for value, want := range map[string]pieces.Ranges{
		"bytes": pieces.RangesServed, "none": pieces.RangesUnknown, "": pieces.RangesUnknown,
	} {
		w := newWorld(t)
		w.size = 50
		w.begin()
		w.fetched(says(200, content(0, 50)).with("Accept-Ranges", value))
		assert.Equal(t, want, w.schedule.Ranges(0), value)
	}
}

func TestN13RangeThatNobodyAskedFor(t *testing.T) {
	w := newWorld(t, pieces.Range{Start: 100, End: 400})
	assert.Equal(t, tryAgain, w.verdict(says(416, "")))
	_, err := w.fetch(part(100, 200))
	assert.Equal(t, permanently, verdictOf(err))
	require.ErrorIs(t, err, sentinel.ErrProtocol)
	assert.Equal(t, []string{"registry.test bytes=100-199", "registry.test"}, w.requests())
}

func TestN5BodyThatGoesOn(t *testing.T) {
	w := newWorld(t)
	w.size = 50 // all of which is one piece
	w.begin()
	n, err := w.fetch(says(200, content(0, 51)).unsized())
	assert.Equal(t, int64(50), n)
	assert.Equal(t, permanently, verdictOf(err))
	require.ErrorIs(t, err, sentinel.ErrSizeMismatch)
	assert.True(t, w.blob.TooLong.Load(), "nothing of it is worth keeping")
}

// A web page of the size of the blob may be the blob.
func TestU15BlobThatIsAWebPage(t *testing.T) {
	w := newWorld(t)
	w.fetched(whole().with("Content-Type", "text/html"))
}
