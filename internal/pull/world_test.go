package pull_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/pull"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	pieceSize    = 100
	stallTimeout = 10 * time.Second

	// largeSize is the size of a blob that is not asked for as a whole before a second range was refused.
	largeSize = 32 << 20
)

// inBubble runs a subtest with faked time.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// world is a blob of 400 bytes in pieces of 100, and servers that give the answers of a test in their order.
type world struct {
	verified  time.Duration // how long hashing took before the first request; needs synctest
	t         *testing.T
	mirrors   []string // hosts
	size      int64
	bodies    *pace.BodyLimiter
	answers   []answer
	requested []string // the host of each request, and what it asks for
	redirects []string // the hosts that the registry was found to lead to

	exchange *exchange.Exchange
	dog      *watchdog.Watchdog
	schedule *pieces.Scheduler
	sources  *pull.Sources
	blob     *pull.Blob
	request  *pull.PieceFetch // for the piece that is fetched
	log      bytes.Buffer
}

// newWorld returns a world with a first piece request. What is missing of the blob is all unless it is told.
func newWorld(t *testing.T, missing ...pieces.Range) *world {
	t.Helper()
	w := &world{t: t, size: 4 * pieceSize}
	w.begin(missing...)
	return w
}

// begin makes the first piece request, for a blob of the world's size and with the world's mirrors.
func (w *world) begin(missing ...pieces.Range) {
	w.t.Helper()
	if missing == nil {
		missing = []pieces.Range{{Start: 0, End: w.size}}
	}
	registry, err := wire.ParseRegistry("http://registry.test")
	require.NoError(w.t, err)
	log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.dog = watchdog.New(stallTimeout, nil)
	w.exchange = exchange.New(exchange.Config{
		Registry: registry, Client: wire.NewClient(&http.Client{Transport: w}, "test", 1),
		Watchdog: w.dog, Bodies: w.bodies, Log: slog.New(slog.DiscardHandler),
		Tokens:      exchange.NewTokens(w.t.Context(), "", nil),
		StatusError: func(f exchange.Failure) error { return &statusError{f.Status} },
	})
	w.schedule = pieces.NewScheduler([]int64{w.size}, pieces.Config{
		PieceSize: pieceSize, MinSplit: pieceSize, Capped: func() bool { return true },
		Large: func() int { return 4 },
	})
	if w.verified > 0 {
		time.Sleep(w.verified)
	}
	config := pull.Config{
		Exchange: w.exchange, Registry: registry, Repository: "library/model", Schedule: w.schedule,
		Log: log, Moved: func(int64) {},
		OnRedirects: func(host string) { w.redirects = append(w.redirects, host) },
	}
	for _, host := range w.mirrors {
		mirror, err := wire.ParseRegistry("http://" + host)
		require.NoError(w.t, err)
		config.Mirrors = append(config.Mirrors, mirror.Mirror(registry))
	}
	w.sources = pull.New(config)
	w.blob = &pull.Blob{
		Digest: digest.FromString("a blob"), Size: w.size, Budget: retry.NewBudget(5 * time.Minute),
	}
	_, _, err = w.schedule.Next(w.t.Context())
	require.NoError(w.t, err)
	w.request = w.fetchOf(w.schedule.Start(0, missing))
}

// fetchOf returns the fetch of a piece of the blob.
func (w *world) fetchOf(p *pieces.Piece) *pull.PieceFetch {
	return pull.NewPieceFetch(w.sources, w.blob, p, nil)
}

// next begins with the next piece.
func (w *world) next() {
	w.t.Helper()
	w.request.Piece.Finish()
	job, ok, err := w.schedule.Next(w.t.Context())
	require.NoError(w.t, err)
	require.True(w.t, ok, "another piece")
	w.request = w.fetchOf(job.Piece)
}

// fetch makes one attempt at the piece, which meets these answers. It returns how many bytes came.
func (w *world) fetch(answers ...answer) (stored int64, err error) {
	w.t.Helper()
	w.answers = answers
	var got bytes.Buffer
	at := w.request.Piece.Pos()
	err = w.request.Fetch(w.t.Context(), &got)
	require.Empty(w.t, w.answers, "all answers were fetched")
	require.Equal(w.t, content(at, at+int64(got.Len())), got.String(), "what was stored")
	return int64(got.Len()), err
}

// fetched makes an attempt that brings the rest of the piece.
func (w *world) fetched(answers ...answer) {
	w.t.Helper()
	_, err := w.fetch(answers...)
	require.NoError(w.t, err)
	require.Equal(w.t, w.request.Piece.End(), w.request.Piece.Pos())
}

// verdict makes an attempt, and says what its outcome means for the next one.
func (w *world) verdict(answers ...answer) string {
	w.t.Helper()
	_, err := w.fetch(answers...)
	return verdictOf(err)
}

const (
	stored      = "stored"
	anotherWay  = "another way"
	tryAgain    = "try again"
	permanently = "failed for good"
)

func verdictOf(err error) string {
	switch {
	case err == nil:
		return stored
	case retry.IsOtherWay(err):
		return anotherWay
	case retry.Retryable(err):
		return tryAgain
	}
	return permanently
}

// RoundTrip gives the next answer.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	told := strings.TrimSpace(r.URL.Host + " " + r.Header.Get("Range"))
	if tag := r.Header.Get("If-Range"); tag != "" {
		told += " if " + tag
	}
	w.requested = append(w.requested, told)
	require.NotEmpty(w.t, w.answers, "an answer to %s", told)
	a := w.answers[0]
	w.answers = w.answers[1:]
	if a.wrote {
		httptrace.ContextClientTrace(r.Context()).WroteRequest(httptrace.WroteRequestInfo{})
	}
	if a.before != nil {
		a.before(r)
	}
	if a.err != nil {
		return nil, a.err
	}
	resp := &http.Response{
		StatusCode: a.status, Header: http.Header{}, Request: r, ContentLength: a.length,
		Body: io.NopCloser(a.body),
	}
	for name, value := range a.header {
		resp.Header.Set(name, value)
	}
	return resp, nil
}

// requests returns what was requested since it was last called.
func (w *world) requests() []string {
	requested := w.requested
	w.requested = nil
	return requested
}

// content returns the bytes [start, end) of the blob.
func content(start, end int64) string {
	var b strings.Builder
	for i := start; i < end; i++ {
		b.WriteByte(byte(i % 251))
	}
	return b.String()
}

// answer is what a server says to one request.
type answer struct {
	status int
	header map[string]string
	body   io.Reader
	length int64 // Content-Length, -1 where it is not told
	before func(*http.Request)
	err    error // in place of an answer
	wrote  bool  // and it came after the whole request was sent
}

func says(status int, body string) answer {
	return answer{status: status, body: strings.NewReader(body), length: int64(len(body))}
}

// part is a 206 with the bytes [start, end) of a blob of 400.
func part(start, end int64) answer { return partOf(4*pieceSize, start, end) }

func partOf(size, start, end int64) answer {
	return says(http.StatusPartialContent, content(start, end)).
		with("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, size))
}

// whole is a 200 with the whole blob.
func whole() answer { return says(http.StatusOK, content(0, 4*pieceSize)) }

// to is a redirect to an object store.
func to(host string) answer {
	return says(http.StatusTemporaryRedirect, "").with("Location", "http://"+host+"/blob?signature=1")
}

func fails(err error) answer { return answer{err: err} }

// with returns the answer with another header.
func (a answer) with(name, value string) answer {
	a.header = maps.Clone(a.header)
	if a.header == nil {
		a.header = make(map[string]string)
	}
	a.header[name] = value
	return a
}

// unsized returns the answer without a Content-Length.
func (a answer) unsized() answer {
	a.length = -1
	return a
}

// cut returns the answer with a connection that breaks after n bytes of the body.
func (a answer) cut(n int64) answer {
	a.body = io.MultiReader(io.LimitReader(a.body, n), brokenReader{})
	return a
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

var errBroken = errors.New("connection broken")

// statusError is the error of an answer that is a failure.
type statusError struct{ status int }

func (e *statusError) Error() string { return http.StatusText(e.status) }
