package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer/internal/blobstore"
	"github.com/modeltransfer/transfer/internal/donor"
	"github.com/modeltransfer/transfer/internal/events"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/pull"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/reuse"
	"github.com/modeltransfer/transfer/internal/watchdog"
)

const (
	// Blobs above pieceThreshold are fetched in pieces of pieceSize: large enough
	// that a request costs nothing, small enough that a crash loses little.
	pieceThreshold = blobstore.LargeThreshold
	pieceSize      = 8 << 20 // 8 MiB

	// nearPieceSize is that of a server that is near, where the network is not what takes long: a real
	// registry spends three milliseconds of CPU time on each request (docs/performance/notes.md).
	nearPieceSize = 16 << 20 // 16 MiB

	// apartPieceSize is that of a near server where there is a blob for each body: what comes of each is
	// hashed as it comes, however long a piece is. Pieces four times as long took no less time
	// (docs/performance/notes.md), and bodies that are too many end later.
	apartPieceSize = 128 << 20 // 128 MiB

	// An idle worker takes half of what another has left when that is at least minSplit and would take the
	// other more than splitAfter: at the end of a download over a lossy link, the last pieces are those with
	// the most losses.
	minSplit   = 128 << 10 // 128 KiB
	splitAfter = 250 * time.Millisecond

	// Where a piece has less than fewLeft to go, a busy machine is the likelier reason for a slow connection.
	fewLeft = 2 << 20 // 2 MiB

	// showEvery is how often a call that gets on shows the blobs that it holds.
	showEvery = time.Second / 2

	// hashers is how many files are hashed at once by Verify. That is bound by the disk or the CPU, and needs
	// no more.
	hashers = 4
)

// Download fetches the blobs that are not in DestDir yet.
//
// It returns nil when every blob is there, whole and synced. On failure the first
// error ends the call; what was finished stays, and what is half there stays where it
// is worth continuing from: the same call made again goes on.
func Download(ctx context.Context, opts DownloadOptions) error {
	return run(ctx, options{
		op: "download", blobs: opts.Blobs, baseURL: opts.BaseURL, repository: opts.Repository,
		mirrors: opts.Mirrors, client: opts.Client, userAgent: opts.UserAgent,
		token: opts.Token, getToken: opts.GetToken,
		limits: limits{
			concurrency: opts.Concurrency, defaultConcurrency: DefaultDownloadConcurrency,
			bodyConcurrency: opts.BodyConcurrency, maxBytesPerSecond: opts.MaxBytesPerSecond,
			limiter: opts.Limiter, stallTimeout: opts.StallTimeout, retryTimeout: opts.RetryTimeout,
		},
		listeners: listeners{opts.Progress, opts.Logger, opts.Trace},
	}, func(ctx context.Context, c *call) error {
		return download(ctx, c, opts)
	})
}

// download fetches what is not in the directory.
func download(ctx context.Context, c *call, opts DownloadOptions) (err error) {
	if len(c.list) == 0 {
		return nil
	}
	if opts.DestDir == "" {
		return fmt.Errorf("%w: no DestDir", ErrInvalidOption)
	}
	dir, err := blobstore.Open(opts.DestDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()

	d := &downloader{call: c, dir: dir, donors: donor.New(opts.Reuse)}
	defer d.donors.Close()
	dir.Waiting = d.waiting(ctx)
	if err := d.plan(ctx, opts.Verify); err != nil {
		return err
	}
	return d.run(ctx)
}

// downloader is one call of Download.
type downloader struct {
	*call
	dir       *blobstore.Dir
	donors    *donor.Files
	missing   []pending       // largest first; their indices are those of the scheduler
	downloads []*blobDownload // of each that is missing; nil before it is started and when it is in place
	schedule  *pieces.Scheduler
	sources   *pull.Sources

	workers *errgroup.Group
	ctx     context.Context // of the workers
	claims  claims
}

// waiting says how this call waits for others that hold a blob. Their time counts as that of a server does.
func (c *call) waiting(ctx context.Context) blobstore.Waiting {
	return blobstore.Waiting{
		Patience: min(c.stallTimeout, c.retryTimeout),
		Began: func(dg digest.Digest) {
			c.logger.LogAttrs(ctx, slog.LevelDebug,
				"another call or process fetches the blob, waiting for it",
				slog.String("digest", dg.String()))
			c.tracer.blob(dg).Wait()
		},
		GaveUp: func(dg digest.Digest) {
			c.logger.LogAttrs(ctx, slog.LevelWarn, "the call or process that holds the blob brings nothing, "+
				"fetching it too", slog.String("digest", dg.String()))
			c.tracer.blob(dg).Retry("", 0, 0, errHolderStalled)
		},
	}
}

// errHolderStalled is why a blob is fetched that another call or process has claimed.
var errHolderStalled = fmt.Errorf("the call or process that holds the blob: %w", ErrStalled)

// claims are the blobs that a call has claimed and not finished.
type claims struct {
	mu        sync.Mutex                      // guards the fields that follow
	remaining map[*blobDownload]time.Duration // of the budget, when it was last looked at
}

func (c *claims) add(b *blobDownload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remaining == nil {
		c.remaining = make(map[*blobDownload]time.Duration)
	}
	c.remaining[b] = 0
}

func (c *claims) remove(b *blobDownload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.remaining, b)
}

// show lets those who wait for a blob see that this call gets on, though nobody tries to fetch that blob now:
// its budget does not run.
func (c *claims) show() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b, before := range c.remaining {
		c.remaining[b] = b.Budget.Left()
		if c.remaining[b] >= before {
			b.partial.Touch()
		}
	}
}

// keepShown shows the claims as long as bytes of any blob come, until the function that it returns is called.
func (c *claims) keepShown(p *progressTracker) (end func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(showEvery)
		defer tick.Stop()
		for before := int64(0); ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if now := p.completed.Load(); now != before {
				before = now
				c.show()
			}
		}
	}()
	return func() { close(done); <-ended }
}

// pending is a blob that is missing, of which so many bytes are in place.
type pending struct {
	blob
	inPlace int64
}

// blobDownload is a blob that was started.
type blobDownload struct {
	pull.Blob
	partial *blobstore.Partial
	discard bool // what is in the partial is not worth keeping

	// What was fetched again, each once at most. Both belong to the worker that commits, as does discard.
	repaired  bool // what was damaged on disk
	refetched bool // the whole blob

	reuse *assembly // nil where all is fetched
}

// plan finds out what is there, and whether there is space for the rest.
func (d *downloader) plan(ctx context.Context, verify bool) error {
	there, err := d.present(ctx, verify)
	if err != nil {
		return err
	}
	var have, partly, need int64
	var sizes []int64
	for i, b := range d.list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if there[i] {
			have += b.size
			b.trace.Find(events.OnDisk)
			b.trace.Succeed()
			continue
		}
		m := pending{b, d.dir.BytesOnDisk(b.digest, b.size)}
		partly += m.inPlace
		need += b.size - m.inPlace
		d.missing, sizes = append(d.missing, m), append(sizes, b.size)
	}
	if err := d.checkSpace(ctx, need); err != nil {
		return err
	}
	d.logger.LogAttrs(ctx, slog.LevelDebug, "download planned", slog.Int("blobs", len(d.list)),
		slog.Int("missing", len(d.missing)), slog.Int64("bytes", need), slog.Int64("have", have),
		slog.Int64("partly", partly))
	d.downloads = make([]*blobDownload, len(d.missing))
	d.schedule = pieces.NewScheduler(sizes, d.scheduling())
	d.sources = pull.New(pull.Config{
		Exchange: d.exchange, Registry: d.registry, Mirrors: d.mirrors, Repository: d.repository,
		Schedule: d.schedule, Log: d.logger, Moved: d.progress.add,
		OnRedirects: d.askAhead, OnSkipped: d.tracer.skipped,
	})
	d.progress.start(have + partly)
	return nil
}

// nobody is the host that an attempt has asked that asks none.
func nobody() string { return "" }

// count counts bytes of a blob that are in place now though none were fetched or, where n is negative, not
// any more.
func (c *call) count(b *pull.Blob, n int64) {
	c.progress.add(n)
	b.Trace.Complete(n)
}

// checkSpace tells whether there is space for what is missing. Where it seems not, what earlier calls have
// left of these blobs is deleted, or overwritten.
func (d *downloader) checkSpace(ctx context.Context, need int64) error {
	if free, known := d.dir.Free(); !known || need <= free {
		return nil
	}
	need = 0
	for _, m := range d.missing {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		need += m.size - max(m.inPlace, d.dir.Reclaim(m.digest))
	}
	free, _ := d.dir.Free()
	if need <= free {
		return nil
	}
	return fmt.Errorf("%w: %d bytes are still to be fetched to %s, %d are free: %d are lacking",
		ErrInsufficientSpace, need, d.dir.Path(), free, need-free)
}

// present tells which of the blobs are in the directory.
func (d *downloader) present(ctx context.Context, verify bool) ([]bool, error) {
	there := make([]bool, len(d.list))
	g, checking := errgroup.WithContext(ctx)
	g.SetLimit(hashers)
	for i, b := range d.list {
		if checking.Err() != nil {
			break
		}
		if !verify {
			var err error
			if there[i], err = d.dir.Has(b.digest, b.size); err != nil {
				return nil, d.blobError(b, nil, err)
			}
			continue
		}
		g.Go(func() (err error) {
			there[i], err = d.dir.Check(checking, b.digest, b.size)
			return d.blobError(b, nil, err)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return there, context.Cause(ctx)
}

func (c *call) scheduling() pieces.Config {
	return pieces.Config{
		PieceSize: pieceSize, NearSize: nearPieceSize, ApartSize: apartPieceSize,
		WholeSize: pieceThreshold,
		MinSplit:  minSplit, SplitAfter: splitAfter, MaxTakeOvers: watchdog.MaxReplaced,
		Small: pace.Small, Large: c.largeAtOnce, SlotFree: c.bodies.SlotFree, Capped: c.rate.Full,
		Slow: func(flows bool, age time.Duration, speed float64, left int64) bool {
			return c.watchdog.TakeOver(flows, age, speed, left < fewLeft)
		},
	}
}

// largeAtOnce is how many large bodies may move at once, but for half of the workers, which small blobs need.
func (c *call) largeAtOnce() int { return min(c.bodies.Large(), max(1, c.concurrency/2)) }

// run starts workers, and waits until they have fetched all that is missing.
func (d *downloader) run(ctx context.Context) error {
	d.workers, ctx = errgroup.WithContext(ctx)
	d.ctx = ctx
	defer context.AfterFunc(ctx, d.schedule.Wake)()
	d.watchdog.OnScan(d.schedule.WakeOne)
	d.startWorkers()
	end := d.claims.keepShown(d.progress)
	err := d.workers.Wait()
	end()
	for _, b := range d.downloads {
		if b != nil {
			err = errors.Join(err, b.partial.Close(!b.discard && !b.TooLong.Load()))
		}
	}
	return err
}

func (d *downloader) startWorkers() {
	for range d.schedule.Jobs(d.concurrency) {
		d.workers.Go(func() error { return d.work(d.ctx) })
	}
}

// askAhead starts as many workers again, which ask where their blobs are while the others move: unless the
// caller has set how many requests there may be.
func (d *downloader) askAhead(host string) {
	d.logger.LogAttrs(d.ctx, slog.LevelDebug, "registry redirects", slog.String("host", host))
	if d.options.concurrency <= 0 {
		d.startWorkers()
	}
}

// work does jobs until there are no more.
func (d *downloader) work(ctx context.Context) error {
	for {
		job, ok, err := d.schedule.Next(ctx)
		if !ok || err != nil {
			return err
		}
		if err := d.advance(ctx, job); err != nil {
			return err
		}
	}
}

// noSpace explains an error of a disk that takes no more. Where free space is lacking, it says how much: of
// 40 GB that are missing, 25 are free. Where it is not, it says what else ends a file: a quota of the user,
// or a limit of the process.
func (d *downloader) noSpace(err error) error {
	if !blobstore.NoSpace(err) {
		return err
	}
	need := d.total - d.progress.completed.Load()
	free, known := d.dir.Free()
	do := "make room"
	if known && free >= need {
		do = "the file system, a quota or a limit of the process lets the file grow no further: change that"
	}
	return fmt.Errorf(
		"%w: %d bytes are still to be fetched to %s, %d are free: %s and run it again to continue: %w",
		ErrInsufficientSpace, need, d.dir.Path(), free, do, err)
}

// advance starts a blob or fetches a piece of it, and finishes the blob when that was the last.
func (d *downloader) advance(ctx context.Context, job pieces.Job) error {
	p := job.Piece
	if p == nil {
		missing, there, err := d.claim(ctx, job.Blob)
		if there || err != nil {
			return err
		}
		p = d.start(d.downloads[job.Blob], missing)
	}
	b := d.downloads[job.Blob]
	var err error
	if p != nil {
		err = d.fetchPiece(ctx, b, p)
	}
	if err == nil && d.schedule.Complete(job.Blob) {
		err = d.finish(ctx, b)
	}
	return d.blobError(d.missing[job.Blob].blob, b.Budget, d.noSpace(err))
}

// claim takes hold of a blob and returns what is missing of it, or finds that another call or process has
// fetched it.
func (d *downloader) claim(ctx context.Context, i int) (missing []pieces.Range, there bool, err error) {
	p, budget := d.missing[i], retry.NewBudget(d.retryTimeout)
	b := &blobDownload{}
	b.Digest, b.Size, b.Index, b.Budget, b.Trace = p.digest, p.size, i, budget, p.trace
	p.trace.Begin()
	// There may be no descriptor free for a while: others of the call have them, and get on.
	loop, seen := d.tracedLoop(p.trace, nobody), d.progress.completed.Load()
	err = loop.Run(ctx, budget, p.digest.String(), func(ctx context.Context) (moved bool, err error) {
		if now := d.progress.completed.Load(); now != seen {
			seen = now
			budget.Renew()
		}
		b.partial, err = d.dir.Claim(ctx, p.digest, p.size)
		return false, err
	})
	if errors.Is(err, blobstore.ErrThere) {
		d.progress.add(p.size - p.inPlace)
		d.schedule.Finish(i)
		p.trace.Find(events.OnDisk)
		p.trace.Succeed()
		return nil, true, nil
	}
	if err != nil {
		return nil, false, d.blobError(p.blob, budget, d.noSpace(err))
	}
	d.downloads[i] = b
	d.claims.add(b)
	budget.Renew() // whoever had it before may have kept us waiting for long
	// Another process may have gone on with it, or thrown it away.
	missing = b.partial.Missing()
	d.progress.add(p.size - lengths(missing) - p.inPlace)
	b.Trace.Complete(p.size - lengths(missing))
	return missing, false, nil
}

func lengths(ranges []pieces.Range) (n int64) {
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

// commit gives a blob that has all its bytes its final name, or puts back what is wrong.
func (d *downloader) commit(ctx context.Context, b *blobDownload) error {
	err := b.partial.Commit(ctx)
	if retry.NoDescriptor(err) {
		loop := d.tracedLoop(b.Trace, nobody)
		err = loop.Run(ctx, b.Budget, b.Digest.String(), func(ctx context.Context) (bool, error) {
			return false, b.partial.Commit(ctx)
		})
	}
	if mismatch, ok := errors.AsType[*blobstore.MismatchError](err); ok {
		return d.repair(ctx, b, mismatch)
	}
	if err != nil {
		return err
	}
	d.logger.LogAttrs(ctx, slog.LevelDebug, "blob in place",
		slog.String("digest", b.Digest.String()), slog.Int64("size", b.Size))
	d.downloads[b.Index] = nil
	d.claims.remove(b)
	d.schedule.Finish(b.Index)
	b.Trace.Succeed()
	return nil
}

// repair puts ranges back, to be fetched again: those that the disk has damaged or, where it has damaged
// none, those that were adopted. Where none was, it is the whole blob, on a new connection and from no
// mirror. It does so once for each.
func (d *downloader) repair(ctx context.Context, b *blobDownload, m *blobstore.MismatchError) error {
	missing := b.partial.Missing()
	disk := len(m.Disk) > 0
	whole := !disk && !m.Adopted
	switch {
	case disk && b.repaired:
		b.discard = true
		return fmt.Errorf("%w: it changed on disk after it was written, twice", ErrDigestMismatch)
	case b.Size == 0:
		b.discard = true
		return fmt.Errorf("%w: no bytes are %s", ErrDigestMismatch, m.Got)
	case whole && b.refetched:
		b.discard = true
		return fmt.Errorf("%w: it came with %s from the registry, twice", ErrDigestMismatch, m.Got)
	}
	b.repaired, b.refetched = b.repaired || disk, b.refetched || whole
	d.logger.LogAttrs(ctx, slog.LevelWarn,
		"content does not match its digest, fetching again what is suspect",
		slog.String("digest", b.Digest.String()), slog.String("got", m.Got.String()),
		slog.Int64("bytes", lengths(missing)), slog.Bool("disk", disk))
	b.Trace.Retry("", 0, 0, fmt.Errorf("%w: %w", ErrDigestMismatch, m))
	d.count(&b.Blob, -lengths(missing))
	b.Budget.Renew() // hashing may have taken long
	if whole {
		b.SkipMirrors.Store(true)
	}
	if m.Adopted && b.reuse.mismatch() {
		return d.finish(ctx, b)
	}
	d.schedule.Again(b.Index, missing)
	return nil
}

// start returns the first piece of a blob: of a large one only its head, where there are files that may have
// the rest.
func (d *downloader) start(b *blobDownload, missing []pieces.Range) *pieces.Piece {
	donors := d.donors.All()
	if b.Size <= pieceThreshold || len(donors) == 0 {
		return d.schedule.Start(b.Index, missing)
	}
	sources := make([]reuse.Source, len(donors))
	for i, x := range donors {
		sources[i] = x
	}
	b.Scattered = true
	b.reuse = &assembly{downloader: d, blob: b, procedure: reuse.New(b.Size, sources, rand.Uint64())}
	step := b.reuse.procedure.Begin(missing)
	return d.schedule.Start(b.Index, step.Fetch, step.Later...)
}

// finish commits a blob of which all is there that was to be fetched, or goes on with what is to be done next
// of it.
func (d *downloader) finish(ctx context.Context, b *blobDownload) error {
	for b.reuse != nil && !b.reuse.done {
		if complete, err := b.reuse.step(ctx); !complete || err != nil {
			return err
		}
	}
	return d.commit(ctx, b)
}

// assembly is a blob that is put together from other files too. No two workers have it at once.
type assembly struct {
	*downloader
	blob      *blobDownload
	procedure *reuse.Procedure
	done      bool // nothing is left to do but to commit
}

// step does the next step. It tells whether that was all of it, and no other worker has anything of the blob.
func (a *assembly) step(ctx context.Context) (complete bool, err error) {
	i, missing := a.blob.Index, a.blob.partial.Missing()
	step := reuse.Step{Fetch: missing, Last: true}
	if a.schedule.Ranges(i) != pieces.RangesIgnored {
		step = a.procedure.Next(a.blob.partial, missing)
	}
	a.done = step.Last
	pin := a.schedule.Continue(i, step.Fetch, step.Later) // or others would commit while this one copies
	if err := a.copy(ctx, step.Copy); err != nil {
		return false, err
	}
	pin.Finish()
	return a.schedule.Complete(i), nil
}

// mismatch says that the digest is wrong. It tells whether that may be because of what was copied.
func (a *assembly) mismatch() bool {
	if a == nil || !a.procedure.Mismatch() {
		return false
	}
	a.done = false
	return true
}

// copy copies what other files are believed to have of the blob. What they do not have is fetched.
func (a *assembly) copy(ctx context.Context, all []reuse.Copy) error {
	if len(all) == 0 {
		return nil
	}
	donors := a.donors.All()
	reused := make([]int64, len(donors)) // of each
	defer func() { a.tellReused(ctx, reused) }()
	for len(all) > 0 {
		from := all[0].Source
		n := slices.IndexFunc(all, func(c reuse.Copy) bool { return c.Source != from })
		if n < 0 {
			n = len(all)
		}
		copied, err := a.copyFrom(ctx, donors[from], all[:n])
		reused[from] += copied
		if err != nil {
			return err
		}
		all = all[n:]
	}
	a.blob.Budget.Renew() // copying may have taken long
	return nil
}

// tellReused tells how many bytes of each file are in the blob now.
func (a *assembly) tellReused(ctx context.Context, reused []int64) {
	for i, from := range a.donors.All() {
		if reused[i] == 0 {
			continue
		}
		a.blob.Trace.Reuse(from.Path(), reused[i])
		a.logger.LogAttrs(ctx, slog.LevelDebug, "bytes of another file reused",
			slog.String("file", from.Path()),
			slog.String("digest", a.blob.Digest.String()), slog.Int64("bytes", reused[i]))
	}
}

// copyFrom copies what one file is believed to have, as far as it can be read.
func (a *assembly) copyFrom(
	ctx context.Context, from *donor.File, all []reuse.Copy,
) (reused int64, err error) {
	file, err := from.Open()
	if err != nil {
		for _, c := range all {
			a.schedule.Again(a.blob.Index, []pieces.Range{c.Range})
		}
		return 0, nil
	}
	defer file.Close()
	for _, c := range all {
		n, err := a.copyRange(ctx, file, c)
		if err != nil {
			return reused, err
		}
		reused += n
		a.schedule.Again(a.blob.Index, []pieces.Range{{Start: c.Start + n, End: c.End}})
	}
	return reused, nil
}

// copyRange copies a range as far as the file has it.
func (a *assembly) copyRange(ctx context.Context, file *os.File, c reuse.Copy) (reused int64, err error) {
	for reused < c.Len() && err == nil {
		n := min(pieceSize, c.Len()-reused)
		n, err = a.blob.partial.Adopt(ctx, file, c.From+reused, c.Start+reused, n)
		a.count(&a.blob.Blob, n)
		reused += n
	}
	if _, ok := errors.AsType[*blobstore.SourceError](err); ok {
		err = nil
	}
	return reused, err
}

// errLost ends the attempts at a piece that another worker has taken over, or whose slot was recalled.
var errLost = errors.New("the piece is fetched later or by another worker")

// fetchPiece fetches a piece, in as many attempts as it takes, or until this worker must not go on with it.
func (d *downloader) fetchPiece(ctx context.Context, b *blobDownload, p *pieces.Piece) error {
	defer p.Finish()
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	p.OnLost(func() { lose(errLost) })
	fetch := pull.NewPieceFetch(d.sources, &b.Blob, p, b.partial)
	err := d.tracedLoop(b.Trace, fetch.Host).Run(ctx, b.Budget, b.Digest.String(), fetch.Attempt)
	if errors.Is(context.Cause(ctx), errLost) {
		return nil // should the disk have failed, whoever goes on finds that out
	}
	return err
}
