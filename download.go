package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer/internal/blobstore"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// Blobs above pieceThreshold are fetched in pieces of pieceSize: large enough
	// that a request costs nothing, small enough that a crash loses little.
	pieceThreshold = blobstore.KeepThreshold
	pieceSize      = 8 << 20 // 8 MiB

	// An idle worker takes half of what another has left when that is at least
	// minSteal and would take the other more than stealAfter: what the server has
	// sent already of that half is sent twice.
	minSteal   = 2 << 20 // 2 MiB
	stealAfter = 2 * time.Second

	// It takes all that another has left when that one, for takeOverAfter, was at
	// less than takeOverShare of the median speed of its peers, and so will go
	// on faster on a new connection. For less than minSteal, a busy machine is the
	// likelier reason, and takeOverLate has to pass.
	takeOverAfter = 300 * time.Millisecond
	takeOverLate  = time.Second
	takeOverShare = 0.1

	// piecesAhead is how many pieces are taken beyond those that may move at once, so that none has to be
	// looked for when there is room.
	piecesAhead = 2

	// gatherTime is how long what was read waits for more before it is written.
	gatherTime = 20 * time.Millisecond

	// mirrorPatience is how often a mirror may fail in a row before it is left alone for the rest of the
	// call.
	mirrorPatience = 3
)

// download fetches what is not in the directory.
func (s *session) download(ctx context.Context, path string, verify bool) (err error) {
	if len(s.blobs) == 0 {
		return nil
	}
	dir, err := blobstore.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()

	d := &downloader{session: s, dir: dir, sources: newSources(s)}
	if err := d.plan(ctx, verify); err != nil {
		return err
	}
	return d.run(ctx)
}

// downloader is one call of Download.
type downloader struct {
	*session
	dir     *blobstore.Dir
	sources []*source

	redirected atomic.Bool // the registry answers with redirects, so that asking needs no room for a body

	mu      sync.Mutex // guards the fields that follow
	changed sync.Cond  // something became available, or all is done
	missing []pending  // not begun
	open    []*fetch   // begun, not finished
	shared  []*fetch   // those of them that may have pieces that nobody has taken
	workers *errgroup.Group
	ctx     context.Context // of the workers
}

// pending is a blob to fetch, of which half bytes are there already.
type pending struct {
	blob
	half int64
}

// plan finds out what is there, and whether there is room for the rest.
func (d *downloader) plan(ctx context.Context, verify bool) error {
	d.changed.L = &d.mu
	var have, half, need int64
	there, err := d.present(ctx, verify)
	if err != nil {
		return err
	}
	for i, b := range d.blobs {
		if there[i] {
			have += b.size
			continue
		}
		partly := d.dir.Half(b.digest, b.size)
		half += partly
		need += b.size - partly
		d.missing = append(d.missing, pending{b, partly})
	}
	if free, known := d.dir.Free(); known && need > free {
		return fmt.Errorf("%w: %d bytes are still to be fetched to %s, %d are free", ErrInsufficientSpace, need, d.dir.Path(), free)
	}
	d.log.LogAttrs(ctx, slog.LevelDebug, "download planned", slog.Int("blobs", len(d.blobs)), slog.Int("missing", len(d.missing)),
		slog.Int64("bytes", need), slog.Int64("have", have), slog.Int64("half", half))
	d.begin(have + half)
	return nil
}

// present tells which of the blobs are in the directory.
func (d *downloader) present(ctx context.Context, verify bool) ([]bool, error) {
	there := make([]bool, len(d.blobs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // hashing is bound by the disk or the CPU, and needs no more
	for i, b := range d.blobs {
		if !verify {
			var err error
			if there[i], err = d.dir.Has(b.digest, b.size); err != nil {
				return nil, d.blobError(b, &patience{}, err)
			}
			continue
		}
		g.Go(func() (err error) {
			there[i], err = d.dir.Check(ctx, b.digest, b.size)
			return d.blobError(b, &patience{}, err)
		})
	}
	return there, g.Wait()
}

func (d *downloader) run(ctx context.Context) error {
	d.workers, ctx = errgroup.WithContext(ctx)
	d.ctx = ctx
	defer context.AfterFunc(ctx, d.wake)()
	look := d.changed.Signal // one who is idle looks again who is slow
	d.watchdog.onLook.Store(&look)
	d.hire(min(d.concurrency, d.jobs()))
	err := d.workers.Wait()
	for _, f := range d.open {
		if f.partial != nil {
			err = errors.Join(err, f.partial.Close(!f.discard.Load()))
		}
	}
	return err
}

// jobs is how many pieces there may be to fetch at once.
func (d *downloader) jobs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := int64(0)
	for _, b := range d.missing {
		n += 1 + b.size/minSteal
		if n >= maxConcurrency {
			break
		}
	}
	return int(n)
}

func (d *downloader) hire(n int) {
	for range n {
		d.workers.Go(func() error { return d.work(d.ctx) })
	}
}

func (d *downloader) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed.Broadcast()
}

// work fetches pieces until there are no more.
func (d *downloader) work(ctx context.Context) error {
	for {
		f, p, err := d.take(ctx)
		if f == nil || err != nil {
			return err
		}
		if err := d.advance(ctx, f, p); err != nil {
			return d.blobError(f.blob, &f.patience, err)
		}
	}
}

// take returns the next thing to do: a piece of a blob that was begun, a blob to
// begin (the piece is nil then), or half of what the slowest worker has before it.
// It waits while there is none but may still be. In the end the blob is nil too.
func (d *downloader) take(ctx context.Context) (*fetch, *pieces.Piece, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if d.manyPieces() {
			return d.begun(len(d.missing) - 1), nil, nil
		}
		for _, f := range d.shared {
			if p := f.next(d.clock()); p != nil {
				return f, p, nil
			}
		}
		if len(d.missing) > 0 {
			return d.begun(0), nil, nil
		}
		if len(d.open) == 0 {
			return nil, nil, nil
		}
		if f, p := d.steal(); p != nil {
			return f, p, nil
		}
		d.changed.Wait()
	}
}

// manyPieces tells whether so many pieces are taken that the smallest blob that is missing should come first: it moves
// beside the pieces now, while at the end nothing would fill the link as its answer is waited for.
func (d *downloader) manyPieces() bool {
	if n := len(d.missing); n == 0 || d.missing[n-1].size > pace.Small {
		return false
	}
	taken := 0
	for _, f := range d.shared {
		taken += f.queue.Active()
	}
	return taken >= d.bodies.Large()+piecesAhead
}

// begun takes a blob off those that are missing.
func (d *downloader) begun(i int) *fetch {
	f := &fetch{pending: d.missing[i]}
	f.patience.digest = f.digest.String()
	f.patience.last.Store(int64(d.clock()))
	if i == 0 {
		d.missing = d.missing[1:]
	} else {
		d.missing = slices.Delete(d.missing, i, i+1)
	}
	d.open = append(d.open, f)
	return f
}

// steal takes half of what the slowest piece has left, or all of it where its connection is a bad
// one.
func (d *downloader) steal() (*fetch, *pieces.Piece) {
	if d.pace.Full() { // it is the cap, and a new connection would be no faster
		return nil, nil
	}
	now := d.clock()
	var slowest *fetch
	var piece *pieces.Piece
	var longest time.Duration
	for _, f := range d.open {
		if f.queue == nil || f.ranges.Load() != rangesYes {
			continue
		}
		if p, left := f.queue.Slowest(now); p != nil && (piece == nil || left > longest) {
			slowest, piece, longest = f, p, left
		}
	}
	switch {
	case piece == nil:
		return nil, nil
	case slowest.takeOvers < slowTries && d.bad(piece, now):
		slowest.takeOvers++
		return slowest, slowest.queue.TakeOver(piece, now)
	case longest > stealAfter && d.bodies.Room():
		return slowest, slowest.queue.Steal(minSteal, now)
	}
	return nil, nil
}

// bad tells whether a piece has a connection so bad that a new one will be faster.
func (d *downloader) bad(p *pieces.Piece, now time.Duration) bool {
	flows, age, speed := p.Judge(now)
	if !flows {
		return age > d.watchdog.stallTimeout/3
	}
	patience := takeOverAfter
	if p.End()-p.Pos() < minSteal {
		patience = takeOverLate
	}
	return age > patience && speed < takeOverShare*d.watchdog.speeds.median()
}

// fetch is a blob that is being fetched, by one worker or by several.
type fetch struct {
	pending
	patience  patience
	partial   *blobstore.Partial // nil until it is claimed; guarded by downloader.mu, as is queue
	queue     *pieces.Queue
	finishing bool // by the worker that was told so; guarded by downloader.mu too
	takeOvers int  // of its pieces, from bad connections; guarded by downloader.mu too

	ranges   atomic.Int32                // whether the registry serves ranges of this blob
	located  atomic.Pointer[wire.Target] // where the registry's redirects led, for the pieces that follow
	etag     atomic.Pointer[string]
	expired  atomic.Bool // the signed URL has, and nothing came since
	whole    atomic.Bool // the registry itself, and not just a mirror, does not serve ranges
	odd      atomic.Bool // an answer of the registry broke HTTP's rules for ranges
	distrust atomic.Bool // the bytes were wrong, perhaps a mirror's
	lacking  sync.Map    // the mirrors that do not have it
	discard  atomic.Bool // what is there is not worth keeping

	// What was fetched again, which is done once; both belong to the one who commits.
	mended bool // what was damaged on disk
	anew   bool // the whole blob
}

const (
	rangesUnknown = iota
	rangesYes
	rangesNo
)

// next returns a piece that nobody has taken. While it is not known whether ranges
// are served, one worker has the blob to itself.
func (f *fetch) next(now time.Duration) *pieces.Piece {
	if f.queue == nil || f.ranges.Load() != rangesYes && f.queue.Active() > 0 {
		return nil
	}
	return f.queue.Next(now)
}

// advance begins a blob or fetches a piece of it, and finishes the blob when that was
// the last.
func (d *downloader) advance(ctx context.Context, f *fetch, p *pieces.Piece) error {
	if f.queue == nil {
		if done, err := d.claim(ctx, f); done || err != nil {
			return err
		}
		d.mu.Lock()
		p = f.next(d.clock())
		d.mu.Unlock()
	}
	if p != nil {
		if err := d.fetchPiece(ctx, f, p); err != nil {
			return err
		}
	}
	d.wake()
	if d.complete(f) {
		return d.finish(ctx, f)
	}
	return nil
}

// complete tells one worker, and no other, that a blob has all its pieces.
func (d *downloader) complete(f *fetch) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.finishing || !f.queue.Done() {
		return false
	}
	f.finishing = true
	return true
}

// claim takes hold of a blob, or finds that another call or process has fetched
// it.
func (d *downloader) claim(ctx context.Context, f *fetch) (done bool, err error) {
	var partial *blobstore.Partial
	err = d.retry(ctx, &f.patience, func() (moved bool, err error) { // there may be no descriptor free
		partial, err = d.dir.Claim(ctx, f.digest, f.size)
		return false, err
	})
	if errors.Is(err, fs.ErrExist) {
		d.progress.add(f.size - f.half)
		d.close(f)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	f.patience.last.Store(int64(d.clock())) // whoever had it before may have kept us waiting for long
	missing := partial.Missing()
	d.progress.add(f.size - lengths(missing) - f.half) // another process may have gone on with it, or thrown it away
	size := int64(0)
	if f.size > pieceThreshold {
		size = pieceSize
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f.partial, f.queue = partial, pieces.NewQueue(missing, size)
	if size > 0 || len(missing) > 1 {
		d.shared = append(d.shared, f)
	}
	return false, nil
}

func lengths(ranges []pieces.Range) (n int64) {
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

// close takes a blob off the list of those that are being fetched.
func (d *downloader) close(f *fetch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	isF := func(o *fetch) bool { return o == f }
	d.open, d.shared = slices.DeleteFunc(d.open, isF), slices.DeleteFunc(d.shared, isF)
	d.changed.Broadcast()
}

// finish commits a blob that has all its bytes, or has what is wrong fetched again.
func (d *downloader) finish(ctx context.Context, f *fetch) error {
	err := f.partial.Commit(ctx)
	if blobstore.NoDescriptor(err) {
		err = d.retry(ctx, &f.patience, func() (bool, error) { return false, f.partial.Commit(ctx) })
	}
	var mismatch *blobstore.MismatchError
	if errors.As(err, &mismatch) {
		return d.repair(ctx, f, mismatch)
	}
	if err != nil {
		return err
	}
	d.log.LogAttrs(ctx, slog.LevelDebug, "blob in place", slog.String("digest", f.digest.String()), slog.Int64("size", f.size))
	d.close(f)
	return nil
}

// repair has the ranges fetched again that are not what was received or, where
// the disk has kept all as it came, what an earlier writer left and then the whole blob, on a new connection and from no
// mirror. It does so once for each.
func (d *downloader) repair(ctx context.Context, f *fetch, m *blobstore.MismatchError) error {
	missing := f.partial.Missing()
	disk := len(m.Disk) > 0
	whole := !disk && lengths(missing) == f.size
	switch {
	case disk && f.mended:
		f.discard.Store(true)
		return fmt.Errorf("%w: it changed on disk after it was written, twice", ErrDigestMismatch)
	case whole && (f.anew || f.size == 0):
		f.discard.Store(true)
		return fmt.Errorf("%w: it came with %s from the registry, twice", ErrDigestMismatch, m.Got)
	}
	f.mended, f.anew = f.mended || disk, f.anew || whole
	d.log.LogAttrs(ctx, slog.LevelWarn, "content does not match its digest, fetching again what is suspect",
		slog.String("digest", f.digest.String()), slog.String("got", m.Got.String()),
		slog.Int64("bytes", lengths(missing)), slog.Bool("disk", disk))
	d.progress.add(-lengths(missing))
	f.patience.last.Store(int64(d.clock())) // hashing may have taken long
	f.distrust.Store(true)
	d.client.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	f.finishing = false
	for _, r := range missing {
		f.queue.Add(r)
	}
	if !slices.Contains(d.shared, f) {
		d.shared = append(d.shared, f)
	}
	d.changed.Broadcast()
	return nil
}

// fetchPiece fetches a piece, in as many attempts as it takes, or until another takes it over.
func (d *downloader) fetchPiece(ctx context.Context, f *fetch, p *pieces.Piece) error {
	defer p.Finish()
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	p.OnTakeOver(func() { lose(errSlow) })
	begin, slow := p.Pos(), 0
	err := d.retry(ctx, &f.patience, func() (moved bool, err error) {
		at := p.Pos()
		if at >= p.End() {
			return false, nil // another worker took the rest
		}
		f.patience.attempts.Add(1)
		w := f.partial.WriterAt(at)
		err = d.fromSources(ctx, &job{fetch: f, piece: p, w: w, resumed: at > begin, crawl: slow >= slowTries})
		if errors.Is(err, errSlow) {
			slow++
		}
		if closing := w.Close(); err == nil {
			err = closing
		}
		return p.Pos() > at, err
	})
	if errors.Is(context.Cause(ctx), errSlow) {
		return nil // should the disk have failed, whoever goes on finds that out
	}
	return err
}

// job is one attempt at a piece.
type job struct {
	*fetch
	piece   *pieces.Piece
	w       *blobstore.Writer
	resumed bool // an earlier attempt brought the beginning of the piece
	crawl   bool // it may be slow
	mirror  bool // a mirror was asked
	early   bool // the registry told before where the blob is, and may have signed that for a while
}

// source is the registry or a mirror of it.
type source struct {
	*wire.Registry
	mirror   bool
	failures atomic.Int32 // in a row
}

func newSources(s *session) []*source {
	var all []*source
	for _, m := range s.mirrors {
		all = append(all, &source{Registry: m, mirror: true})
	}
	return append(all, &source{Registry: s.registry})
}

// fromSources asks the mirrors, as long as they are worth it, and then the
// registry, whose error is the one that counts.
func (d *downloader) fromSources(ctx context.Context, j *job) (err error) {
	for _, src := range d.sources {
		if src.mirror && !j.worthAsking(src) {
			continue
		}
		if err := d.pauses.wait(ctx, src.Host()); err != nil {
			return err
		}
		err = d.attempt(ctx, src, j)
		var path *fs.PathError
		if err == nil || errors.As(err, &path) {
			src.failures.Store(0)
			return err
		}
		var status *StatusError
		if errors.As(err, &status) && status.StatusCode == http.StatusNotFound { // a mirror need not have everything
			j.lacking.Store(src, true)
		} else {
			src.failures.Add(1)
		}
		if ctx.Err() != nil { // another took the piece over, or the call has ended
			return err
		}
		if src.mirror && j.piece.Pos() == j.piece.End() {
			return nil // it went on behind the end
		}
		if src.mirror {
			d.log.LogAttrs(ctx, slog.LevelWarn, "mirror failed, asking the next", slog.String("mirror", src.Host()),
				slog.String("digest", j.digest.String()), slog.Any("error", err))
		}
	}
	return err
}

// worthAsking tells whether a mirror may have the blob.
func (f *fetch) worthAsking(mirror *source) bool {
	_, lacking := f.lacking.Load(mirror)
	return !lacking && !f.distrust.Load() && mirror.failures.Load() < mirrorPatience
}

// attempt makes one request, or two where the registry only tells where the blob is, and
// stores what it brings.
func (d *downloader) attempt(ctx context.Context, src *source, j *job) (err error) {
	a := d.watchdog.watch(ctx, j.crawl)
	defer func() {
		j.piece.Rest(d.clock())
		err = a.end(err)
	}()

	req, ranged := d.request(src, j)
	resp, err := d.locate(a, j, &req)
	if err != nil {
		return err
	}
	j.mirror, j.early = src.mirror, req.Target.Left && !src.mirror
	if err := d.acquireBody(a, &j.patience, min(j.size, pieceSize), src.Host()); err != nil {
		return errors.Join(err, discard(resp))
	}
	j.piece.Asked(d.clock())
	if resp == nil {
		if resp, err = d.do(a.ctx, req); err != nil {
			return err
		}
	}
	defer resp.Body.Close()
	d.learn(ctx, src, j, resp)
	if err := d.check(j, resp, ranged); err != nil {
		return err
	}
	j.piece.Flowing(d.clock())
	if resp.StatusCode == http.StatusOK {
		return d.takeWhole(a, j, resp)
	}
	d.servesRanges(j)
	return d.copy(a, j, resp.Body)
}

// servesRanges lets other workers fetch pieces of the blob too, unless an answer to a
// range was wrong before.
func (d *downloader) servesRanges(j *job) {
	if j.ranges.CompareAndSwap(rangesUnknown, rangesYes) {
		d.wake()
	}
}

// request is the request for what is left of the piece. It asks for a range
// unless that is the whole blob.
func (d *downloader) request(src *source, j *job) (req wire.Request, ranged bool) {
	req = wire.Request{Method: http.MethodGet, Target: src.Blob(d.repository, j.digest), Header: make(http.Header, 4)}
	if at := j.located.Load(); at != nil && !src.mirror {
		req.Target = *at
	}
	start, end := j.piece.Pos(), j.piece.End()
	if j.ranges.Load() == rangesNo && (src.mirror || j.whole.Load()) || start == 0 && end == j.size {
		return req, false
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, end-1))
	if etag := j.etag.Load(); etag != nil && j.resumed && !src.mirror {
		req.Header.Set("If-Range", *etag)
	}
	return req, true
}

// locate asks a registry that is known to redirect where the blob is, before there is
// room for a body, so that asking overlaps moving; but not again where that has expired, perhaps while it
// waited for room. It sets the target of the request; where the answer is the blob itself after all, it
// returns that.
func (d *downloader) locate(a *attempt, j *job, req *wire.Request) (*wire.Response, error) {
	if req.Target.Left || !d.redirected.Load() || j.expired.Load() {
		return nil, nil
	}
	ask := *req
	ask.NoFollow = true
	resp, err := d.do(a.ctx, ask)
	if err != nil {
		return nil, err
	}
	if !wire.IsRedirect(resp.StatusCode) {
		return resp, nil
	}
	resp.Discard()
	req.Target, err = resp.Target.Resolve(resp.Header.Get("Location"))
	return nil, err
}

func discard(resp *wire.Response) error {
	if resp == nil {
		return nil
	}
	return resp.Body.Close()
}

// learn remembers what an answer tells about the registry.
func (d *downloader) learn(ctx context.Context, src *source, j *job, resp *wire.Response) {
	if src.mirror || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return
	}
	j.expired.Store(false)
	if etag := resp.Header.Get("ETag"); strings.HasPrefix(etag, `"`) { // a weak one is no use here, RFC 9110 section 13.1.5
		j.etag.Store(&etag)
	}
	if !resp.Target.Left {
		return
	}
	j.located.Store(&resp.Target)
	if !d.redirected.Swap(true) {
		d.log.LogAttrs(ctx, slog.LevelDebug, "registry redirects", slog.String("host", resp.Target.URL.Host))
		d.hire(min(d.concurrency, d.jobs()))
	}
}

// check reports whether the answer is the bytes that were asked for, before one of
// them is read.
func (d *downloader) check(j *job, resp *wire.Response, ranged bool) error {
	switch resp.StatusCode {
	case http.StatusOK:
		if n := resp.ContentLength; n >= 0 && n != j.size {
			return permanent(fmt.Errorf("%w: the registry has %d bytes, not %d", ErrSizeMismatch, n, j.size))
		}
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		if why := wrongRange(j, resp, ranged); why != "" {
			return j.withoutRange(why)
		}
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		err := d.statusError(resp)
		if !j.early {
			return err
		}
		j.located.Store(nil)
		j.expired.Store(true)
		return errors.Join(errOtherWay, err) // the registry will sign another
	default:
		return d.statusError(resp)
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return permanent(fmt.Errorf("%w: content coding %.20q, which was not asked for", ErrProtocol, coding))
	}
	return nil
}

// wrongRange says what is wrong with a 206 or 416, if anything.
func wrongRange(j *job, resp *wire.Response, ranged bool) string {
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return "416, though the range is inside the blob"
	}
	start, end, size, err := wire.ContentRange(resp.Header)
	switch {
	case !ranged:
		return "206, though no range was asked for"
	case err != nil:
		return err.Error()
	case start != j.piece.Pos() || end < j.piece.End() || size >= 0 && size != j.size:
		return fmt.Sprintf("bytes %d-%d of %d, which is not what was asked for", start, end-1, size)
	}
	return ""
}

// withoutRange has the blob asked for as a whole after a wrong answer to a range,
// once.
func (j *job) withoutRange(why string) error {
	err := fmt.Errorf("%w: %s", ErrProtocol, why)
	j.noRanges()
	if !j.mirror && j.odd.Swap(true) {
		return permanent(err)
	}
	return err
}

// noRanges remembers that a range was asked for in vain. Where that was a mirror, the registry is still asked for
// ranges, so that what came is not sent again, but only one worker fetches the blob.
func (j *job) noRanges() {
	j.ranges.Store(rangesNo)
	if !j.mirror {
		j.whole.Store(true)
	}
}

// takeWhole takes the piece out of a body that is the whole blob, and with it all
// that follows and nobody has taken.
func (d *downloader) takeWhole(a *attempt, j *job, resp *wire.Response) error {
	if j.piece.Pos() > 0 || j.piece.End() < j.size {
		j.noRanges() // we asked for a range
		j.queue.Extend(j.piece)
	} else if resp.Header.Get("Accept-Ranges") == "bytes" {
		d.servesRanges(j)
	}
	if err := d.skip(a, resp.Body, j.piece.Pos()); err != nil {
		return err
	}
	if err := d.copy(a, j, resp.Body); err != nil || resp.ContentLength >= 0 || j.piece.Pos() < j.size {
		return err
	}
	var one [1]byte
	if n, _ := io.ReadFull(resp.Body, one[:]); n > 0 {
		j.discard.Store(true)
		return permanent(fmt.Errorf("%w: the body goes on after %d bytes", ErrSizeMismatch, j.size))
	}
	return nil
}

// skip reads past n bytes that are there already.
func (d *downloader) skip(a *attempt, body io.Reader, n int64) error {
	counted := &countingReader{r: body, count: a.moved} // however slowly it comes
	for n > 0 {
		read, err := io.CopyN(io.Discard, counted, min(n, d.pace.Chunk(bufferSize)))
		if n -= read; err != nil {
			return short(err)
		}
		if err := d.throttle(a, int(read)); err != nil {
			return err
		}
	}
	return nil
}

// short tells the end of a body that had no Content-Length and ended too early
// from one that was cut, which net/http finds.
func short(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w: the body ended early", ErrSizeMismatch)
	}
	return err
}

// copy stores the body up to the end of the piece, which moves nearer when another worker takes the rest.
func (d *downloader) copy(a *attempt, j *job, body io.Reader) error {
	buffer := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(buffer)
	for {
		left := j.piece.End() - j.piece.Pos()
		if left <= 0 {
			return nil
		}
		n, err := d.gather(a, body, (*buffer)[:min(left, d.pace.Chunk(bufferSize))])
		if n > 0 {
			if err := d.store(a, j, (*buffer)[:n]); err != nil {
				return err
			}
		}
		if err != nil && j.piece.Pos() < j.piece.End() {
			return short(err)
		}
	}
}

// gather fills the buffer, so that what comes in small portions costs few writes, but
// for no longer than gatherTime from the first byte on, so that a slow body is stored as it comes.
func (d *downloader) gather(a *attempt, body io.Reader, buffer []byte) (n int, err error) {
	n, err = body.Read(buffer)
	a.moved(n)
	for began := d.clock(); err == nil && n < len(buffer) && d.clock()-began < gatherTime; {
		var more int
		more, err = body.Read(buffer[n:])
		a.moved(more)
		n += more
	}
	return n, err
}

// store writes what was read, as far as the piece is still this worker's.
func (d *downloader) store(a *attempt, j *job, b []byte) error {
	b = b[:j.piece.Claim(len(b))]
	if _, err := j.w.Write(b); err != nil {
		return err
	}
	j.patience.last.Store(int64(d.clock()))
	d.progress.add(int64(len(b)))
	return d.throttle(a, len(b))
}
