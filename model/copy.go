package model

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/wire"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// CopyOptions say how [Copy] copies. The zero value copies all that the reference names, with all that
// refers to it.
type CopyOptions struct {
	// Options are for both registries. Mirrors are of the source.
	Options

	// Platform is the one, such as linux/arm64, whose manifest of an index is copied. Empty means all of it.
	Platform string

	// NoReferrers leaves out signatures and what else refers to the model.
	NoReferrers bool

	// Dir is the directory below which blobs are kept that cannot be passed on as they come. Empty means
	// one in the user's cache.
	Dir string

	// DryRun copies nothing; the result says what the target lacks.
	DryRun bool

	// Limits bound what an index may list.
	Limits Limits
}

// Copy copies a model, or an index with all it lists, from one reference to another, byte for byte, with
// what refers to it. The target is asked first: whether it takes uploads, which blobs it has, and within
// one registry whether they can be mounted. What it lacks is passed on as it comes, several blobs at once,
// each with one buffer of 128 KiB, and verified: the end of a blob is sent only where its digest is right.
// A source that cuts a body is asked for the rest of it, and an upload that is cut goes on where the target
// has it. What the target does not take so goes through the disk, and so does what it said it had where it
// then refuses the manifest for that.
//
// The manifests go last: after a failure the tag is what it was. What the target has got stays, and the
// next call does not send it again. A directory below Dir stays too where a blob of more than 256 MiB was
// on its way: that blob goes through the disk in the next call, which fetches nothing twice. It is removed
// when all is copied.
//
// The result has the reference of the target. The error is a [*SideError] that says which of the two it is
// about; it matches those of this package, of package registry, of [transfer.Download] and of
// [transfer.Upload]. Trace is told of a blob that goes through the disk twice, when it has come and when it
// has gone.
func Copy(ctx context.Context, from, to string, opts CopyOptions) (Result, error) {
	c := &copier{CopyOptions: opts}
	err := c.copy(ctx, from, to)
	return c.result, err
}

// SideError is an error of [Copy], and which of the two references it is about.
type SideError struct {
	Reference ref.Reference
	Err       error
}

func (e *SideError) Error() string { return e.Err.Error() }
func (e *SideError) Unwrap() error { return e.Err }

// side is an error that is about one of the references, which it names.
func side(r ref.Reference, err error) error {
	if err == nil {
		return nil
	}
	return &SideError{r, named(r, err)}
}

// copier is one copy.
type copier struct {
	CopyOptions
	from, to  ref.Reference
	via       *http.Client // of many small requests, and of streams
	source    *registry.Repository
	target    *registry.Repository
	prober    *prober             // asks the target
	manifests []registry.Manifest // what is copied, then what refers to it
	own       int                 // how many there are before what refers to them
	missing   []transfer.Blob
	way       detour
	pulse     pulse
	result    Result
}

func (c *copier) copy(ctx context.Context, from, to string) (err error) {
	if c.from, err = parse(ctx, from); err == nil {
		c.to, err = parse(ctx, to)
	}
	if err == nil {
		err = c.Limits.check()
	}
	if err != nil {
		return err
	}
	c.result.Reference = c.to
	via, closeIdle := c.ownClient()
	defer closeIdle()
	c.via = via
	if err := c.open(ctx); err != nil {
		return err
	}
	defer c.target.CloseIdleConnections()
	defer c.source.CloseIdleConnections()
	blobs, err := c.list(ctx)
	if err != nil {
		return side(c.from, err)
	}
	c.way = newDetour(c.Dir, c.result.Digest, c.to)
	defer c.way.release()
	if !c.DryRun && c.way.isNeeded(blobs) {
		if err := c.keepWay(ctx); err != nil {
			return err
		}
	}
	if err := c.probe(ctx, blobs); err != nil || c.DryRun {
		return side(c.to, err)
	}
	return c.run(ctx)
}

// keepWay keeps the directory for this copy: another one of the same model to the same target would remove
// it. The lock is beside it: that the directory is there means that a copy has ended in its middle. Where the
// other brings nothing, this copy has another directory.
func (c *copier) keepWay(ctx context.Context) (err error) {
	if c.way.unlock == nil {
		above, name := filepath.Dir(c.way.dir), filepath.Base(c.way.dir)
		c.way.unlock, err = unpack.Lock(ctx, above, name, c.pulse.turn(&c.Options, above, func() {
			c.way.turnOff()
			if c.Logger != nil {
				c.Logger.Warn("another copy of this model brings nothing, copying too",
					slog.String("dir", c.way.dir))
			}
		}))
	}
	return side(c.to, err)
}

// open opens both repositories, that of the target first: what it does not take need not be asked for.
func (c *copier) open(ctx context.Context) (err error) {
	if c.target, err = c.openTarget(ctx, c.to); err != nil {
		return &SideError{c.to, err}
	}
	if c.source, err = Open(c.from, c.Options); err != nil {
		c.target.CloseIdleConnections()
	}
	return side(c.from, err)
}

// ownClient returns the client of requests of this package's own, and what closes the connections that are
// not the caller's.
func (o *Options) ownClient() (client *http.Client, closeIdle func()) {
	if o.Client != nil {
		return o.Client, func() {}
	}
	client = newClient()
	return client, client.CloseIdleConnections
}

// newClient returns a client that keeps as many connections as there may be requests.
func newClient() *http.Client { return &http.Client{Transport: wire.NewTransport(2 * streamsAtOnce)} }

// list finds out what is to be copied.
func (c *copier) list(ctx context.Context) ([]transfer.Blob, error) {
	m, err := c.source.Manifest(ctx, c.from.Version())
	if err == nil && c.Platform != "" {
		m, c.result.Platform, err = choosePlatform(ctx, c.source, m, c.Platform)
	}
	if err != nil {
		return nil, err
	}
	c.result.Digest = m.Digest
	if c.to.Digest != "" && c.to.Digest.String() != m.Digest {
		return nil, fmt.Errorf("%w: it is %s, not %s", transfer.ErrDigestMismatch, m.Digest, c.to.Digest)
	}
	tree, err := treeOf(ctx, c.source, m, c.Limits.Manifests)
	if err != nil {
		return nil, err
	}
	c.own = len(tree.All)
	if !c.NoReferrers {
		if err := c.refer(ctx, tree); err != nil {
			return nil, err
		}
	}
	c.manifests, c.result.Referrers = tree.All, len(tree.All)-c.own
	return blobsOf(c.manifests)
}

// ErrReferrers is a registry that does not say what refers to a model. [CopyOptions].NoReferrers does not
// ask.
var ErrReferrers = errors.New("what refers to it cannot be told")

// refer finds what refers to the manifests of a tree, and to what refers to them, and adds it.
func (c *copier) refer(ctx context.Context, tree *pack.Tree) error {
	for i := 0; i < len(tree.All); i++ {
		list, err := c.source.Referrers(ctx, tree.All[i].Digest, "")
		if err != nil {
			return fmt.Errorf("%w: %w", ErrReferrers, err)
		}
		for _, d := range list {
			if err := tree.Add(d.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}

// probe asks the target which blobs it has, and has it mount those that it can.
func (c *copier) probe(ctx context.Context, blobs []transfer.Blob) error {
	options := c.Options
	options.Client = c.via
	c.prober = newProber(options, c.to, c.target)
	from := ""
	if !c.DryRun && c.from.BaseURL() == c.to.BaseURL() && c.from.Repository != c.to.Repository {
		from = c.from.Repository
	}
	there, err := c.prober.all(ctx, blobs, from)
	if err = errors.Join(err, context.Cause(ctx)); err != nil {
		return err
	}
	c.result.plan(blobs, namesOf(c.manifests), func(b transfer.Blob) bool { return there[b.Digest] })
	for _, b := range blobs {
		if !there[b.Digest] {
			b.From = from
			c.missing = append(c.missing, b)
		}
	}
	return nil
}

// run copies the blobs that the target lacks, then the manifests.
func (c *copier) run(ctx context.Context) error {
	if len(c.missing) > 0 {
		if err := c.bring(ctx); err != nil {
			return err
		}
	}
	name := cmp.Or(c.to.Tag, c.to.Digest.String())
	again := func(m registry.Manifest) error { return c.again(ctx, m) }
	err := putManifests(ctx, c.target, c.manifests[:c.own], name, again)
	if err == nil {
		err = putManifests(ctx, c.target, c.manifests[c.own:], "", again)
	}
	if err != nil {
		return side(c.to, err)
	}
	return c.way.clear()
}

// bring takes blobs from the source to the target: as they come where that works, and the rest through the
// disk.
func (c *copier) bring(ctx context.Context) (err error) {
	if err := c.prober.mayPush(ctx); err != nil {
		return side(c.to, err)
	}
	tell(c.Begin, c.result)
	c.pulse.fetching.Store(true)
	defer c.pulse.fetching.Store(false)
	n := &ferried{total: c.result.Bytes, there: c.result.There, tell: c.Progress, pulse: &c.pulse}
	begun := time.Now()
	defer func() { c.result.Moved, c.result.Took = n.moved(), time.Since(begun) }()
	n.add(0, 0, 0)
	if err := c.pass(ctx, n); err != nil || len(c.missing) == 0 {
		return err
	}
	return c.detour(ctx, n, registry.Manifest{})
}

// again takes the blobs of a manifest through the disk, where the target lacks what it said it has.
func (c *copier) again(ctx context.Context, m registry.Manifest) (err error) {
	if c.missing, err = m.Blobs(); err != nil {
		return err
	}
	n := &ferried{pulse: &c.pulse}
	err = c.detour(ctx, n, m)
	c.result.moreMoved(n.moved())
	return err
}

// pass passes blobs on as they come, and leaves in missing what has to go through the disk.
func (c *copier) pass(ctx context.Context, n *ferried) error {
	direct, kept, err := c.way.split(c.missing)
	if err != nil || len(direct) == 0 {
		return err
	}
	streaming := c.Options
	streaming.Client = c.via
	source, err := Open(c.from, streaming)
	if err != nil {
		return side(c.from, err)
	}
	s := &streamer{
		from: source, to: c.prober, host: c.from.Registry(),
		own: transfer.NewLimiter(c.MaxBytesPerSecond), shared: c.Limiter,
		told: func(moved int64) { n.add(moved-n.streamed, 0, 0) },
	}
	if c.Trace != nil {
		s.trace = *c.Trace
	}
	left, err := s.all(ctx, direct, c.atOnce(cmp.Or(max(c.BodyConcurrency, 0), streamsAtOnce)))
	c.missing = append(left, kept...)
	return side(c.from, err)
}

// detour takes blobs from the source to the target through the disk, and then their manifest, if it has any.
func (c *copier) detour(ctx context.Context, n *ferried, m registry.Manifest) error {
	if c.way.err != nil {
		return optionf("Dir", "is needed: %v", c.way.err)
	}
	if err := c.keepWay(ctx); err != nil {
		return err
	}
	if err := c.way.check(); err != nil {
		return side(c.to, err)
	}
	d := c.downloadOptions(c.from, c.source)
	d.Blobs, d.DestDir = c.missing, c.way.dir
	d.Progress = func(completed, _ int64) { n.add(0, completed-n.fetched, 0) }
	if err := transfer.Download(ctx, d); err != nil {
		need := pack.Size(c.missing) - n.fetched
		return side(c.from, lackOfRoom(err, need, c.way.dir))
	}
	u := c.uploadOptions(c.to, c.target)
	u.Blobs, u.SrcDir, u.Manifest, u.ManifestRef = c.missing, c.way.dir, m.Data, m.Digest
	t := newTally(0, nil)
	u.Progress = func(completed, total int64) {
		t.progress(completed, total)
		n.add(0, 0, completed-n.sent)
	}
	u.Trace = t.uploaded(u.Trace)
	err := transfer.Upload(ctx, u)
	t.count(&n.uploaded)
	return side(c.to, err)
}

// ferried counts what has moved. Bytes that go through the disk count by halves for Progress.
type ferried struct {
	total, there int64
	tell         func(completed, total int64)
	pulse        *pulse

	mu                      sync.Mutex // guards the calls of tell
	streamed, fetched, sent int64      // changed by one transfer at a time

	uploaded Result // of what went through the disk, when that has ended
}

func (f *ferried) add(streamed, fetched, sent int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streamed, f.fetched, f.sent = f.streamed+streamed, f.fetched+fetched, f.sent+sent
	f.pulse.moved.Store(true)
	if f.tell != nil {
		f.tell(f.there+f.streamed+(f.fetched+f.sent)/2, f.total)
	}
}

// moved is how much has come to the target.
func (f *ferried) moved() int64 { return f.streamed + f.uploaded.Moved }

// detour is the directory of a copy, through which goes what cannot be passed on.
type detour struct {
	dir  string
	made bool  // the directory above is the cache's, or was not there
	err  error // why there is none
	own  bool  // no other copy finds it

	unlock func() // nil where this copy does not keep it
}

// newDetour returns the directory that a copy has for itself, because it is removed at the end. The same
// copy finds it again after a failure.
func newDetour(dir, dg string, to ref.Reference) detour {
	d := detour{made: dir == ""}
	if d.made {
		cache, err := os.UserCacheDir()
		if err != nil {
			return detour{err: err}
		}
		dir = filepath.Join(cache, "modeltransfer", "copies")
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		d.made = true
	}
	what := digest.FromString(dg + " " + to.URL())
	d.dir = filepath.Join(dir, "transfer-copy-"+what.Encoded()[:16])
	return d
}

// turnOff leaves the directory to another copy, and takes one that no other finds.
func (d *detour) turnOff() { d.dir, d.own = d.dir+"-"+rand.Text(), true }

// maxLost is the size of the largest blob of which nothing need be kept when a call ends in its middle.
const maxLost = 256 << 20 // 256 MiB

func isLarge(b transfer.Blob) bool { return b.Size > maxLost }

// split returns the blobs that go from one registry to the other without the disk between, and those that
// do not: large ones in the middle of which an earlier call has ended. What is on the disk is continued by
// another call, and what is not is fetched again: the first time that costs less than the second pass over
// the disk. The directory is the sign of such a call.
func (d *detour) split(blobs []transfer.Blob) (direct, kept []transfer.Blob, err error) {
	_, err = os.Lstat(d.dir)
	again, large := err == nil, false
	for _, b := range blobs {
		if again && isLarge(b) {
			kept = append(kept, b)
			continue
		}
		direct, large = append(direct, b), large || isLarge(b)
	}
	if !large || d.err != nil {
		return direct, kept, nil
	}
	return direct, kept, os.MkdirAll(d.dir, 0o777)
}

// check refuses a link in the place of the directory: its name can be foretold, and who else may write to Dir
// could have blobs written to any place.
func (d *detour) check() error {
	info, err := os.Lstat(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s: %w: it is not a directory of a copy", d.dir, fs.ErrExist)
	}
	return err
}

// isNeeded tells whether an earlier copy has left the directory, or one of these blobs may leave it.
func (d *detour) isNeeded(blobs []transfer.Blob) bool {
	if d.err != nil {
		return false
	}
	_, err := os.Lstat(d.dir)
	return err == nil || slices.ContainsFunc(blobs, isLarge)
}

// clear removes the directory.
func (d *detour) clear() error {
	if d.unlock == nil {
		return nil
	}
	return os.RemoveAll(d.dir)
}

// release leaves the directory to others, if they find it, and removes the one above it where that was made
// for it and has nothing in it.
func (d *detour) release() {
	if d.unlock == nil {
		return
	}
	d.unlock()
	if d.own {
		_ = os.RemoveAll(d.dir)
	}
	if d.made {
		_ = os.Remove(filepath.Dir(d.dir)) // fails where something is in it
	}
}
