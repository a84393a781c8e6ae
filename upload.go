package transfer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer/internal/blobstore"
	"github.com/modeltransfer/transfer/internal/content"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/sessions"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// smallBody is the size up to which a blob is sent with the request that begins
	// its upload, where the registry takes that, and without asking first once the registry has
	// been seen to take bodies: the answer would take as long as the body.
	smallBody = 1 << 20 // 1 MiB

	// A small blob is sent without asking after manyAbsent in a row that the registry did not have, but
	// one in askAgain is asked about all the same.
	manyAbsent = 32
	askAgain   = 16

	// uploadsAhead is how many blobs for each that may send its body are asked about
	// or waiting for the answer.
	uploadsAhead = 5

	// resumeSize is the size from which on an upload is continued after a fault: below, asking how
	// much has arrived takes longer than sending it again.
	resumeSize = 8 << 20 // 8 MiB

	// Chunks begin at startChunk, shrink to minChunk where a registry or what is
	// before it refuses them, and grow to maxChunk.
	startChunk = 64 << 20  // 64 MiB
	minChunk   = 1 << 20   // 1 MiB
	maxChunk   = 256 << 20 // 256 MiB

	// maxLost is how often in a row a registry may forget an upload session of a blob.
	maxLost = 3

	// The time for the answer to a body that was sent whole is doubled each time that none has come, maxUnheard times at
	// the most: on a slow link, buffers on the way may hold the end of it.
	maxUnheard = 5

	// abortTimeout bounds the deletion of an upload session that was given up.
	abortTimeout = 5 * time.Second
)

// upload sends the blobs and then the manifest.
func (s *session) upload(ctx context.Context, path string, data []byte, ref string) (err error) {
	if len(data) == 0 || ref == "" {
		data = nil
	} else if err := checkReference(ref, data); err != nil {
		return err
	}
	u := &uploader{session: s, store: sessions.Open(), chunk: pace.NewChunkSize(startChunk, minChunk, maxChunk)}
	if len(s.blobs) > 0 {
		if u.dir, err = blobstore.OpenSource(path); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, u.dir.Close()) }()
		if err := u.checkSources(); err != nil {
			return err
		}
		u.begin(0)
		if err := u.sendBlobs(ctx, u.sendings(nil)); err != nil {
			return err
		}
	}
	if data == nil {
		return nil
	}
	return u.pushManifest(ctx, data, ref)
}

// checkReference reports whether a manifest can be pushed under ref.
func checkReference(ref string, data []byte) error {
	if !strings.Contains(ref, ":") {
		if err := wire.CheckTag(ref); err != nil {
			return fmt.Errorf("%w: ManifestRef: %w", ErrInvalidOption, err)
		}
		return nil
	}
	dg := digest.Digest(ref)
	if err := dg.Validate(); err != nil {
		return fmt.Errorf("%w: ManifestRef %.100q: %w", ErrInvalidDigest, ref, err)
	}
	if got := dg.Algorithm().FromBytes(data); got != dg {
		return fmt.Errorf("%w: ManifestRef is %s, the manifest is %s", ErrDigestMismatch, dg, got)
	}
	return nil
}

// uploader is one call of Upload.
type uploader struct {
	*session
	dir   *blobstore.Dir
	store sessions.Store

	// What the registry's first answers have taught, so that it is not asked in vain again.
	single    atomic.Int32 // whether it takes a blob with the request that begins its upload
	takesBody atomic.Bool  // it has taken a body itself, without a redirect
	unasking  atomic.Bool  // it, or what is before it, does not let a body wait to be asked for
	ollama    atomic.Bool  // it speaks the protocol of the Ollama registry
	absent    atomic.Int32 // blobs in a row that it was asked about and did not have
	unasked   atomic.Int32 // blobs that it need not have been asked about
	chunk     *pace.ChunkSize
}

const (
	singleUnknown = iota
	singleTried
	singleYes
	singleNo
)

// checkSources looks at all files before the first request.
func (u *uploader) checkSources() error {
	for _, b := range u.blobs {
		f, err := u.open(b)
		if err != nil {
			return u.blobError(b, &patience{}, err)
		}
		f.Close()
	}
	return nil
}

// open opens the file of a blob.
func (u *uploader) open(b blob) (*os.File, error) {
	f, err := u.dir.Source(b.digest, b.size)
	if errors.Is(err, blobstore.ErrSize) {
		return nil, fmt.Errorf("%w: %w", ErrSizeMismatch, err)
	}
	return f, err
}

// sendings are the blobs to send: all, or again those that the registry lacks
// although it has said otherwise.
func (u *uploader) sendings(lacking []digest.Digest) (all []*sending) {
	for _, b := range u.blobs {
		again := slices.Contains(lacking, b.digest)
		if lacking != nil && !again {
			continue
		}
		s := &sending{blob: b, mount: b.from != "" && !again, probe: b.from == "" && !again}
		s.patience.digest = b.digest.String()
		if again {
			s.again = true
			s.reported.Store(b.size)
		}
		all = append(all, s)
	}
	return all
}

// sendBlobs sends blobs, several at once.
func (u *uploader) sendBlobs(ctx context.Context, all []*sending) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(uploadsAhead * u.concurrency)
	for _, s := range all {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return u.sendBlob(ctx, s)
		})
	}
	return g.Wait()
}

// sending is a blob on its way to the registry.
type sending struct {
	blob
	patience patience
	content  *content.File
	reported atomic.Int64 // bytes that Progress has been told of
	probe    bool         // the registry may have the blob
	mount    bool         // it may be mounted
	again    bool         // the registry says that it has the blob, and has not

	session wire.Target     // where the upload goes on; zero when none is open
	saved   *sessions.Entry // remembers that for a later call
	earlier bool            // an earlier call began it
	offset  int64           // how much of the blob the session has
	unsure  bool            // a request has failed: the session may have more
	closing bool            // the request that ends the session may have arrived
	lost    int             // sessions in a row that the registry has forgotten
	chunked bool
	least   int64   // the least size of a chunk
	direct  *direct // where else the body goes
	parts   *parts  // the Ollama registry takes the blob in parts
	unheard int     // bodies that were sent whole and not answered in time
}

// direct is a place in the registry's object store.
type direct struct {
	target wire.Target
	header http.Header // signed with it
	done   bool        // the body is there
}

// parts are the parts that were sent, as the composite etag of an object store sums them up.
type parts struct {
	sums  hash.Hash // of the sums of the parts
	sum   hash.Hash // of the part that is being sent
	count int
}

// sendBlob has one blob in the registry when it returns nil.
func (u *uploader) sendBlob(ctx context.Context, s *sending) error {
	s.patience.last.Store(int64(u.clock()))
	err := u.retry(ctx, &s.patience, func() (moved bool, err error) {
		s.patience.attempts.Add(1)
		before := s.reported.Load()
		err = u.attempt(ctx, s)
		return s.reported.Load() > before, err
	})
	if s.content != nil {
		err = errors.Join(err, s.content.Close())
	}
	if err != nil {
		u.abandon(ctx, s, err)
		return u.blobError(s.blob, &s.patience, err)
	}
	s.saved.Close(false)
	u.progress.add(s.size - s.reported.Load())
	u.log.LogAttrs(ctx, slog.LevelDebug, "blob in place", slog.String("digest", s.digest.String()), slog.Int64("size", s.size))
	return nil
}

// attempt goes one row of requests: is the blob there, begin or continue, send, end.
func (u *uploader) attempt(ctx context.Context, s *sending) error {
	if s.unsure {
		if there, err := u.recover(ctx, s); there || err != nil {
			return err
		}
	}
	if s.session.IsZero() {
		if there, err := u.start(ctx, s); there || err != nil {
			return err
		}
	}
	err := u.send(ctx, s)
	if err == nil {
		return nil
	}
	s.unsure = true
	return u.judge(ctx, s, err)
}

// judge says what an error means for the upload session.
func (u *uploader) judge(ctx context.Context, s *sending, err error) error {
	var status *StatusError
	if !errors.As(err, &status) {
		return err
	}
	switch {
	case status.StatusCode == http.StatusRequestEntityTooLarge || status.StatusCode == http.StatusLengthRequired:
		if s.direct != nil || !u.smaller(s) && s.chunked {
			return err
		}
		s.chunked = true
		return errors.Join(errOtherWay, err)
	case outOfStep(err) && !s.session.IsZero() && s.size >= resumeSize && s.lost < maxLost-1:
		s.lost++ // it is asked once more how much it has; the last time begins a new session
		return errors.Join(errOtherWay, err)
	case s.earlier && s.closing && status.StatusCode == http.StatusBadRequest, // the file was another then
		sessionLost(status) && s.lost < maxLost:
		s.lost++
		s.unsure = false
		u.giveUp(ctx, s)
		return errors.Join(errOtherWay, err)
	}
	return err
}

// smaller makes chunks smaller than what was refused, if the registry lets them be.
func (u *uploader) smaller(s *sending) bool {
	size := min(u.chunk.Size(), s.size)
	return size > s.least && u.chunk.Refused(size)
}

// sessionLost tells whether a registry no longer knows an upload session, or not as it was left.
func sessionLost(e *StatusError) bool {
	return e.StatusCode == http.StatusNotFound || outOfStep(e) ||
		slices.ContainsFunc(e.Errors, func(r RegistryError) bool {
			return r.Code == "BLOB_UPLOAD_UNKNOWN" || r.Code == "BLOB_UPLOAD_INVALID"
		})
}

// ask makes a request without a body, under the eyes of the watchdog. The body of the answer was read.
func (s *session) ask(ctx context.Context, method string, t wire.Target, header http.Header, patience int64) (*wire.Response, error) {
	a := s.watchdog.watch(ctx, true)
	a.sent(digestTime(patience))
	resp, err := s.do(a.ctx, wire.Request{Method: method, Target: t, Header: header})
	if err == nil {
		err = s.failure(resp)
	}
	return resp, a.end(err)
}

// failure returns the error that an answer is, if it is one, and reads its body. A 3xx that leads
// nowhere, such as 304, confirms nothing.
func (s *session) failure(resp *wire.Response) error {
	if resp.StatusCode >= http.StatusMultipleChoices && !wire.IsRedirect(resp.StatusCode) {
		return s.statusError(resp)
	}
	resp.Discard()
	return nil
}

// refused tells whether a registry does not do what it was asked, though it lets us in and works: then
// there may be another way.
func refused(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && !status.Temporary() && status.StatusCode != http.StatusUnauthorized
}

// exists asks whether the registry has a blob. Only 404 means that it has not;
// where it will not tell, the upload will show.
func (u *uploader) exists(ctx context.Context, b blob) (bool, error) {
	resp, err := u.ask(ctx, http.MethodHead, u.registry.Blob(u.repository, b.digest), nil, 0)
	if refused(err) {
		return false, nil
	}
	return err == nil && resp.StatusCode == http.StatusOK, err
}

// recover finds out, after a fault, whether the blob has arrived all the same, and if
// not, how much of it the session has.
func (u *uploader) recover(ctx context.Context, s *sending) (there bool, err error) {
	if s.closing && !s.again {
		if there, err := u.exists(ctx, s.blob); there || err != nil {
			return there, err
		}
	}
	s.unsure, s.closing = false, false
	switch {
	case s.session.IsZero() || s.parts != nil || s.direct != nil && s.direct.done: // what failed is sent again, and no more
		return false, nil
	case s.size < resumeSize || s.direct != nil || s.session.Left:
		u.giveUp(ctx, s)
		return false, nil
	}
	return false, u.resume(ctx, s)
}

// resume asks a session how much it has. A session that the registry does not know,
// or will not tell about, is given up.
func (u *uploader) resume(ctx context.Context, s *sending) error {
	resp, err := u.ask(ctx, http.MethodGet, s.session, nil, 0)
	if refused(err) {
		u.giveUp(ctx, s)
		return nil
	}
	if err != nil {
		s.unsure = true
		return err
	}
	have, err := wire.UploadRange(resp.Header)
	if err != nil || have > s.size {
		u.giveUp(ctx, s)
		return nil
	}
	s.offset, s.chunked = have, true
	u.log.LogAttrs(ctx, slog.LevelDebug, "upload continues", slog.String("digest", s.digest.String()), slog.Int64("offset", have))
	return u.follow(s, resp)
}

// follow goes on where an answer says that the session is now.
func (u *uploader) follow(s *sending, resp *wire.Response) (err error) {
	if location(resp) != "" {
		s.session, err = resp.Target.Resolve(location(resp))
	}
	if err == nil && u.resumable(s) {
		s.saved.Save(s.session.URL.String())
	}
	return err
}

// location is where an answer says that a session goes on. The Ollama registry has a
// header of its own for that, for when Location leads elsewhere.
func location(resp *wire.Response) string {
	return cmp.Or(resp.Header.Get("Docker-Upload-Location"), resp.Header.Get("Location"))
}

// start begins the upload of a blob, if it is not there.
func (u *uploader) start(ctx context.Context, s *sending) (there bool, err error) {
	if s.probe && !u.likelyAbsent(s) {
		if there, err := u.exists(ctx, s.blob); there || err != nil {
			u.absent.Store(0)
			return there, err
		}
		u.absent.Add(1)
	}
	s.probe = !s.again // the next time: what fails now may arrive all the same
	if err := u.restore(ctx, s); err != nil || !s.session.IsZero() {
		return false, err
	}
	if s.mount {
		there, err := u.mountBlob(ctx, s)
		if there || err != nil || !s.session.IsZero() {
			return there, err
		}
	}
	return u.postSingle(ctx, s)
}

// mountBlob has a blob mounted. Where that does not work, it may still be there: that was not asked before.
func (u *uploader) mountBlob(ctx context.Context, s *sending) (there bool, err error) {
	there, err = u.post(ctx, s, url.Values{"mount": {s.digest.String()}, "from": {s.from}}, false)
	s.mount = err != nil && retryable(err)
	if s.mount || there && err == nil {
		return there, err
	}
	there, err = u.exists(ctx, s.blob)
	if there {
		u.giveUp(ctx, s)
	}
	return there, err
}

// likelyAbsent tells whether a blob need not be asked about before it is sent first: that costs hardly more, and the
// registry had none of many before.
func (u *uploader) likelyAbsent(s *sending) bool {
	return s.patience.attempts.Load() == 1 && s.size <= smallBody && u.absent.Load() >= manyAbsent && u.unasked.Add(1)%askAgain != 0
}

// restore continues the session that an earlier call has left, if there is one.
func (u *uploader) restore(ctx context.Context, s *sending) error {
	if s.size < blobstore.KeepThreshold || s.saved != nil {
		return nil
	}
	s.saved = u.store.Claim(u.registry.Blob(u.repository, s.digest).URL.String())
	target, err := u.registry.Uploads(u.repository, url.Values{}).Resolve(s.saved.Session())
	if err != nil || target.Left {
		return nil
	}
	s.session, s.earlier = target, true
	return u.resume(ctx, s)
}

// postSingle begins an upload with the blob itself where the registry is known to take
// that. The first small blob finds out.
func (u *uploader) postSingle(ctx context.Context, s *sending) (there bool, err error) {
	query := url.Values{}
	trial := false
	if s.size > 0 && s.size <= smallBody {
		trial = u.single.CompareAndSwap(singleUnknown, singleTried)
	}
	single := trial || s.size > 0 && s.size <= smallBody && u.single.Load() == singleYes
	if single || u.ollama.Load() {
		query.Set("digest", s.digest.String())
	}
	there, err = u.post(ctx, s, query, single)
	if !trial {
		return there, err
	}
	if there {
		u.single.Store(singleYes)
		return there, err
	}
	u.single.Store(singleNo) // also after a broken connection: that is how some refuse a body
	if refused(err) {
		return u.post(ctx, s, url.Values{}, false)
	}
	return there, err
}

// post begins an upload session. It returns true where that was all: the blob
// was mounted, was there, or went with the request.
func (u *uploader) post(ctx context.Context, s *sending, query url.Values, body bool) (there bool, err error) {
	target := u.registry.Uploads(u.repository, query)
	header := http.Header{"X-Redirect-Uploads": {"2"}, "X-Content-Length": {strconv.FormatInt(s.size, 10)}}
	var resp *wire.Response
	if body {
		resp, err = u.sendBody(ctx, s, wire.Request{Method: http.MethodPost, Target: target, Header: header}, 0, s.size)
	} else {
		resp, err = u.ask(ctx, http.MethodPost, target, header, 0)
	}
	switch {
	case err != nil:
		return false, err
	// A registry that was not told which blob it is about has not got it.
	case resp.StatusCode == http.StatusCreated && (len(query) > 0 || resp.Header.Get("Docker-Content-Digest") != ""):
		return true, matches(resp, s.digest)
	case resp.StatusCode != http.StatusAccepted:
		return false, permanent(fmt.Errorf("%w: POST %s: %d instead of 202", ErrProtocol, wire.Redact(resp.Target.URL), resp.StatusCode))
	case location(resp) == "":
		return false, permanent(fmt.Errorf("%w: POST %s: 202 without a Location", ErrProtocol, wire.Redact(resp.Target.URL)))
	}
	return false, u.opened(s, resp)
}

// opened learns what a registry tells with a new session.
func (u *uploader) opened(s *sending, resp *wire.Response) (err error) {
	s.offset, s.direct, s.parts, s.earlier = 0, nil, nil, false
	s.least = wire.MinChunk(resp.Header)
	if resp.Header.Get("Docker-Upload-Location") != "" {
		u.ollama.Store(true)
		s.parts = &parts{sums: md5.New()}
	}
	if place := resp.Header.Get("X-Direct-Upload-Url"); place != "" {
		header, err := wire.SignedHeaders(resp.Header)
		if err != nil {
			return permanent(fmt.Errorf("%w: %w", ErrProtocol, err))
		}
		s.direct, s.parts = &direct{header: header}, nil
		if s.direct.target, err = resp.Target.Resolve(place); err != nil {
			return err
		}
	}
	return u.follow(s, resp)
}

// send sends what the session lacks, and ends it.
func (u *uploader) send(ctx context.Context, s *sending) error {
	switch {
	case s.direct != nil:
		if err := u.sendDirect(ctx, s); err != nil {
			return err
		}
	case s.chunked, s.parts != nil:
		for s.offset < s.size {
			if err := u.sendChunk(ctx, s); err != nil {
				return err
			}
		}
	default:
		return u.sendWhole(ctx, s)
	}
	return u.finalise(ctx, s)
}

// sendBody sends the bytes [start, end) of a blob. A 401 or a redirect costs no body,
// because the registry is asked first, except where it is known to take small ones.
func (u *uploader) sendBody(ctx context.Context, s *sending, r wire.Request, start, end int64) (resp *wire.Response, err error) {
	if err := u.openContent(s); err != nil {
		return nil, err
	}
	a := u.watchdog.watch(ctx, true)
	var sent atomic.Bool
	defer func() {
		if err = a.end(err); errors.Is(err, ErrStalled) && sent.Load() {
			s.unheard = min(s.unheard+1, maxUnheard)
		}
	}()
	if err := u.acquireBody(a, &s.patience, end-start, u.registry.Host()); err != nil {
		return nil, err
	}
	if r.Header == nil {
		r.Header = make(http.Header, 4)
	}
	if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/octet-stream")
	}
	if end > start && !u.unasking.Load() && (end-start > smallBody || !u.takesBody.Load()) {
		r.Header.Set("Expect", "100-continue")
	}
	r.Length = end - start
	r.Body = func() (io.ReadCloser, error) {
		if sent.Swap(false) { // with another token, or elsewhere
			a.extra.Store(0)
			if err := u.acquireBody(a, &s.patience, end-start, u.registry.Host()); err != nil {
				return nil, err
			}
		}
		return u.body(a, s, start, end, func() { // others may send while the registry digests this one
			a.slot.Release()
			sent.Store(true)
		})
	}
	resp, err = u.do(a.ctx, r)
	if err == nil && resp.StatusCode == http.StatusExpectationFailed && r.Header.Get("Expect") != "" {
		resp.Discard() // RFC 9110 section 10.1.1
		u.unasking.Store(true)
		r.Header.Del("Expect")
		resp, err = u.do(a.ctx, r)
	}
	if wrong := u.wrongSource(s); wrong != nil {
		err = wrong
	}
	if err != nil {
		return nil, err
	}
	if err = u.failure(resp); err == nil && sent.Load() && !resp.Target.Left && resp.StatusCode < http.StatusMultipleChoices {
		u.takesBody.Store(true)
	}
	return resp, err
}

func (u *uploader) openContent(s *sending) error {
	if s.content != nil {
		return nil
	}
	f, err := u.open(s.blob)
	if err != nil {
		return err
	}
	s.content = content.New(f, s.digest, s.size, u.pace.Chunk(bufferSize))
	return nil
}

// body returns the bytes [start, end) of a blob, and calls sent when all were read.
func (u *uploader) body(a *attempt, s *sending, start, end int64, sent func()) (io.ReadCloser, error) {
	a.held.Add(1) // what lies before is hashed first
	defer a.held.Add(-1)
	pos := start
	body, err := s.content.Body(start, end, func(n int) error {
		pos += int64(n)
		u.moved(a, s, pos, n)
		if pos == end {
			a.sent(digestTime(s.size) + u.watchdog.stallTimeout*(1<<s.unheard-1))
			sent()
		}
		return u.throttle(a, n)
	})
	if s.parts == nil || err != nil {
		return body, err
	}
	s.parts.sum = md5.New()
	return io.NopCloser(io.TeeReader(body, s.parts.sum)), nil
}

// moved counts n bytes that were given to the transport, up to pos. What is sent again was reported before.
func (u *uploader) moved(a *attempt, s *sending, pos int64, n int) {
	a.moved(n)
	if fresh := pos - s.reported.Load(); fresh > 0 {
		s.reported.Store(pos)
		s.patience.last.Store(int64(u.clock()))
		u.progress.add(fresh)
	}
}

// wrongSource returns why the file is not the blob.
func (u *uploader) wrongSource(s *sending) error {
	switch err := s.content.Err(); {
	case errors.Is(err, content.ErrSize):
		return permanent(fmt.Errorf("%w: %w", ErrSizeMismatch, err))
	case errors.Is(err, content.ErrDigest):
		return permanent(fmt.Errorf("%w: %w", ErrDigestMismatch, err))
	default:
		return err
	}
}

// sendWhole sends the blob with the request that ends the session.
func (u *uploader) sendWhole(ctx context.Context, s *sending) error {
	s.closing = true
	resp, err := u.sendBody(ctx, s, wire.Request{
		Method: http.MethodPut, Target: s.session.WithQuery("digest", s.digest.String()),
	}, 0, s.size)
	if err != nil {
		return err
	}
	return matches(resp, s.digest)
}

// matches compares the digest of what the registry says it has stored.
func matches(resp *wire.Response, dg digest.Digest) error {
	got := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if got.Validate() == nil && got.Algorithm() == dg.Algorithm() && got != dg {
		return permanent(fmt.Errorf("%w: the registry has stored %s instead of %s", ErrDigestMismatch, got, dg))
	}
	return nil
}

// sendDirect sends the blob to the object store, unless it is there.
func (u *uploader) sendDirect(ctx context.Context, s *sending) error {
	if s.direct.done {
		return nil
	}
	_, err := u.sendBody(ctx, s, wire.Request{
		Method: http.MethodPut, Target: s.direct.target, Header: s.direct.header.Clone(),
	}, 0, s.size)
	s.direct.done = err == nil
	return err
}

// sendChunk sends the next chunk of the blob (OCI distribution spec, "Pushing a blob in chunks").
func (u *uploader) sendChunk(ctx context.Context, s *sending) error {
	size := max(u.chunk.Size(), s.least)
	start, end := s.offset, s.size
	if size < end-start {
		end = start + size
	}
	header := http.Header{"Content-Range": {fmt.Sprintf("%d-%d", start, end-1)}}
	if s.parts != nil {
		header.Set("X-Redirect-Uploads", "1")
	}
	r := wire.Request{Method: http.MethodPatch, Target: s.session, Header: header, NoFollow: true}
	resp, err := u.sendBody(ctx, s, r, start, end)
	if err == nil && wire.IsRedirect(resp.StatusCode) {
		resp, err = u.redirectChunk(ctx, s, r, resp, start, end)
	}
	if err != nil {
		return err
	}
	u.chunk.Taken(end - start)
	return u.accepted(s, resp, start, end)
}

// redirectChunk sends a chunk where the registry has sent us. The Ollama registry
// wants a part PUT into its object store, and the session goes on as its redirect says.
func (u *uploader) redirectChunk(ctx context.Context, s *sending, r wire.Request, resp *wire.Response, start, end int64) (*wire.Response, error) {
	target, err := resp.Target.Resolve(resp.Header.Get("Location"))
	if err != nil {
		return nil, err
	}
	r.Target, r.NoFollow = target, false
	if s.parts == nil {
		return u.sendBody(ctx, s, r, start, end)
	}
	r.Method, r.Header = http.MethodPut, nil
	_, err = u.sendBody(ctx, s, r, start, end)
	resp.Header.Del("Location") // it was the part's
	return resp, err
}

// accepted notes how much the session has after a chunk: less, perhaps, than was sent.
func (u *uploader) accepted(s *sending, resp *wire.Response, start, end int64) error {
	have := end
	if s.parts == nil && resp.Header.Get("Range") != "" {
		var err error
		have, err = wire.UploadRange(resp.Header)
		if have == 0 && end == 1 {
			have = 1 // "0-0" is said of one byte as well as of none
		}
		if err != nil || have <= start || have > end {
			return fmt.Errorf("%w: the registry has bytes %.50q after %d-%d were sent", ErrProtocol, resp.Header.Get("Range"), start, end-1)
		}
	}
	if s.parts != nil {
		s.parts.sums.Write(s.parts.sum.Sum(nil))
		s.parts.count++
	}
	s.offset, s.lost = have, 0
	return u.follow(s, resp)
}

// finalise ends a session that has the whole blob.
func (u *uploader) finalise(ctx context.Context, s *sending) error {
	s.closing = true
	target := s.session.WithQuery("digest", s.digest.String())
	if s.parts != nil {
		target = target.WithQuery("etag", fmt.Sprintf("%x-%d", s.parts.sums.Sum(nil), s.parts.count))
	}
	resp, err := u.ask(ctx, http.MethodPut, target, http.Header{"Content-Type": {"application/octet-stream"}}, s.size)
	if err != nil {
		return err
	}
	return matches(resp, s.digest)
}

// abandon gives up an upload. The session is deleted, so that the registry need not
// keep what it has, unless the next call may continue it.
func (u *uploader) abandon(ctx context.Context, s *sending, err error) {
	keep := u.resumable(s) && s.saved != nil && (s.earlier || s.reported.Load() > 0) && (ctx.Err() != nil || retryable(err))
	s.saved.Close(keep)
	if !keep && !s.session.IsZero() {
		u.abort(ctx, s.session)
	}
}

// resumable tells whether a later call can continue the upload: not in the object store, whose URLs
// are signed for a short time and are secrets.
func (u *uploader) resumable(s *sending) bool {
	return s.size >= blobstore.KeepThreshold && s.parts == nil && s.direct == nil && !s.session.Left
}

// giveUp deletes the session, if there is one, so that another can be begun.
func (u *uploader) giveUp(ctx context.Context, s *sending) {
	if !s.session.IsZero() {
		u.abort(ctx, s.session)
	}
	s.session, s.offset = wire.Target{}, 0
}

// abort deletes a session. It has a short time of its own, also after a cancel, and may fail.
func (u *uploader) abort(ctx context.Context, session wire.Target) {
	if session.Left {
		return // an object store knows no sessions
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, err := u.ask(ctx, http.MethodDelete, session, nil, 0)
	for n := 0; outOfStep(err) && backoff(ctx, n, abortTimeout) == nil; n++ {
		err = u.deleteCurrent(ctx, session)
	}
	if err != nil {
		u.log.LogAttrs(ctx, slog.LevelDebug, "upload session not deleted", slog.Any("error", err))
	}
}

// deleteCurrent deletes a session where it is now.
func (u *uploader) deleteCurrent(ctx context.Context, session wire.Target) error {
	resp, err := u.ask(ctx, http.MethodGet, session, nil, 0)
	if err != nil {
		return err
	}
	if location(resp) != "" {
		if session, err = resp.Target.Resolve(location(resp)); err != nil || session.Left {
			return err
		}
	}
	_, err = u.ask(ctx, http.MethodDelete, session, nil, 0)
	return err
}

// outOfStep tells whether a registry has more, or less, of a session than its URL says. It may
// still be writing what it got of a request that was cut.
func outOfStep(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.StatusCode == http.StatusRequestedRangeNotSatisfiable
}

// pushManifest pushes the manifest, when all its blobs are in place. Blobs that the registry
// then says it lacks, though it has said that it has them, are sent again, once.
func (u *uploader) pushManifest(ctx context.Context, data []byte, ref string) error {
	err := u.putManifest(ctx, data, ref)
	var status *StatusError
	if errors.As(err, &status) && slices.ContainsFunc(status.Errors, func(r RegistryError) bool { return r.Code == "MANIFEST_BLOB_UNKNOWN" }) {
		if lacking := u.sendings(status.digests); status.digests != nil && len(lacking) > 0 {
			u.log.LogAttrs(ctx, slog.LevelWarn, "registry lacks blobs it said it has, sending them again", slog.Int("blobs", len(lacking)))
			if err := u.sendBlobs(ctx, lacking); err != nil {
				return err
			}
			err = u.putManifest(ctx, data, ref)
		}
	}
	if err != nil {
		return fmt.Errorf("manifest %s: %w", ref, err)
	}
	u.log.LogAttrs(ctx, slog.LevelDebug, "manifest in place", slog.String("ref", ref))
	return nil
}

func (u *uploader) putManifest(ctx context.Context, data []byte, ref string) error {
	p := &patience{digest: ref}
	p.last.Store(int64(u.clock()))
	return u.retry(ctx, p, func() (moved bool, err error) {
		a := u.watchdog.watch(ctx, true)
		defer func() { err = a.end(err) }()
		resp, err := u.do(a.ctx, wire.Request{
			Method: http.MethodPut, Target: u.registry.Manifest(u.repository, ref), Length: int64(len(data)),
			Header: http.Header{"Content-Type": {manifest.MediaType(data)}},
			Body: func() (io.ReadCloser, error) {
				return io.NopCloser(&countingReader{r: bytes.NewReader(data), count: a.moved}), nil
			},
		})
		if err == nil {
			err = u.failure(resp)
		}
		if err == nil {
			err = matches(resp, digest.FromBytes(data))
		}
		return false, err
	})
}

// countingReader tells how much was read.
type countingReader struct {
	r     io.Reader
	count func(n int)
}

var _ io.Reader = (*countingReader)(nil)

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.count(n)
	return n, err
}
