package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/modeltransfer/transfer"
	pacing "github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/model/limit"
	"github.com/modeltransfer/transfer/model/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func copyCommand(a *app) *cobra.Command {
	var platform, dir string
	var most limits
	var alone, dry bool
	c := &cobra.Command{
		Use: "copy REF REF", Short: "Copy a model from one registry or repository to another", GroupID: "move",
		Long: "Copy copies a model, or an index with all it lists, and what refers to them, such as " +
			"signatures. Within one registry blobs are mounted where it lets us. What the target lacks is passed " +
			"on as it comes; blobs of more than 1 GiB, and what cannot be passed on, go through a directory on " +
			"this machine, which is removed when all is copied: after a failure or Ctrl-C, run the same " +
			"command again. --username is for the registry of the second REF; log in to the other.",
		Example: "  transfer copy all-minilm registry.example/me/all-minilm\n" +
			"  transfer copy registry.example/me/model:v1 registry.example/team/model:v1",
		Args: operands("REF", "REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := &copier{app: a, notes: new(notes), dir: dir, limits: most, alone: alone, dry: dry}
			return c.copy(cmd.Context(), args[0], args[1], platform)
		},
	}
	c.Flags().StringVar(&platform, "platform", "", "of an index, copy the manifest for this `OS/ARCH` alone")
	c.Flags().StringVar(&dir, "dir", "", "keep blobs on their way below `DIR` (default in the user's cache)")
	c.Flags().BoolVar(&alone, "no-referrers", false, "leave out signatures and what else refers to the model")
	c.Flags().BoolVar(&dry, "dry-run", false, "only tell what would be copied")
	most.addManifests(c.Flags())
	return c
}

// copier is one copy.
type copier struct {
	*app
	from, to       ref.Reference
	source, target *registry.Repository
	notes          *notes
	limits         limits
	dir            string              // of --dir or empty, then where the blobs on their way are
	made           bool                // the directory above is the cache's, or not there yet
	placed         error               // why there is no such directory
	via            *http.Client        // of many small requests, and of streams
	prober         *prober             // asks the target
	manifests      []registry.Manifest // the last is what is copied
	alone, dry     bool                // without referrers, without doing it
	referrers      []registry.Manifest // of the manifests, and of each other
	blobs, missing []transfer.Blob
	there          int64
}

// copy copies a model from one reference to another.
func (c *copier) copy(ctx context.Context, from, to, platform string) (err error) {
	if c.from, err = c.reference(from); err != nil {
		return err
	}
	if c.to, err = c.reference(to); err != nil {
		return err
	}
	c.usernameFor = c.to.Registry() // the source may be anybody's
	if c.target, err = c.app.target(ctx, c.to, c.notes); err != nil {
		return err
	}
	defer c.target.CloseIdleConnections()
	if c.source, err = c.remote(c.from, nil, c.notes); err != nil {
		return err
	}
	defer c.source.CloseIdleConnections()
	if c.via, err = c.busyClient(); err != nil {
		return err
	}
	defer c.via.CloseIdleConnections()
	if err := c.plan(ctx, platform); err != nil {
		return fmt.Errorf("%s: %w", c.from, err)
	}
	if c.dry {
		return c.tellPlan(ctx)
	}
	done, err := c.run(ctx)
	if err != nil {
		return err
	}
	c.tell(done)
	return nil
}

// tell says what was copied.
func (c *copier) tell(done outcome) {
	dg, with := c.manifests[len(c.manifests)-1].Digest, ""
	if c.json {
		c.event("copied", append([]field{
			{"reference", c.to.URL()}, {"digest", dg}, {"referrers", len(c.referrers)},
		}, done.fields()...)...)
		return
	}
	if n := len(c.referrers); n > 0 {
		with = ", with " + plural(n, "referrer")
	}
	c.say("copied %s to %s: %s%s", c.from, c.to, done, with)
	c.say("digest %s", dg)
}

// plan finds out what is to be copied.
func (c *copier) plan(ctx context.Context, platform string) error {
	m, err := c.source.Manifest(ctx, c.from.Version())
	if err == nil && platform != "" {
		m, err = c.choosePlatform(ctx, c.from, c.source, m, platform)
	}
	if err != nil {
		return err
	}
	if c.to.Digest != "" && c.to.Digest != digest.Digest(m.Digest) {
		return fmt.Errorf("%w: it is %s, not %s", transfer.ErrDigestMismatch, m.Digest, c.to.Digest)
	}
	if c.manifests, err = manifestTree(ctx, c.source, m, c.limits.manifests); err != nil {
		return err
	}
	if err := c.refer(ctx); err != nil {
		return err
	}
	var parts []pack.Part
	for _, one := range slices.Concat(c.manifests, c.referrers) {
		if one.IsIndex() {
			continue
		}
		blobs, err := one.Blobs()
		if err != nil {
			return err
		}
		parts = append(parts, pack.Part{Blobs: blobs})
	}
	c.blobs = mergeBlobs(parts)
	return nil
}

// refer finds what refers to the manifests, and to what refers to them.
func (c *copier) refer(ctx context.Context) error {
	if c.alone {
		return nil
	}
	seen, size := map[string]bool{}, int64(0)
	most := cmp.Or(c.limits.manifests, pack.DefaultManifests)
	for _, m := range c.manifests {
		seen[m.Digest] = true
	}
	for all := slices.Clone(c.manifests); len(all) > 0; all = all[1:] {
		list, err := c.source.Referrers(ctx, all[0].Digest, "")
		if err != nil {
			return fmt.Errorf("%w (--no-referrers leaves them out)", err)
		}
		for _, d := range list {
			if seen[d.Digest] {
				continue
			}
			m, err := c.source.Manifest(ctx, d.Digest)
			if err != nil {
				return err
			}
			tree, err := manifestTree(ctx, c.source, m, c.limits.manifests)
			if err != nil {
				return err
			}
			for _, m := range tree {
				if !seen[m.Digest] {
					seen[m.Digest], size = true, size+int64(len(m.Data))
					all, c.referrers = append(all, m), append(c.referrers, m)
				}
			}
			if len(seen) > most || size > int64(most)*pack.ManifestBytes { // all are kept in memory
				return &limit.Error{Limit: limit.Manifests, Most: int64(most)}
			}
		}
	}
	return nil
}

// place makes dir a directory that this copy has for itself, because it is removed at the end. The same
// copy finds it again after a failure.
func (c *copier) place() error {
	m := c.manifests[len(c.manifests)-1]
	own := c.dir == ""
	if own {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("%w; name a directory with --dir", err)
		}
		c.dir = filepath.Join(cache, "modeltransfer", "copies")
	}
	_, err := os.Lstat(c.dir)
	c.made = own || errors.Is(err, fs.ErrNotExist)
	what := digest.FromString(m.Digest + " " + c.to.URL())
	c.dir = filepath.Join(c.dir, "transfer-copy-"+what.Encoded()[:16])
	return nil
}

// run copies the blobs that the target lacks, then the manifests.
func (c *copier) run(ctx context.Context) (outcome, error) {
	c.placed = c.place()
	there, err := c.probe(ctx)
	if err != nil {
		return outcome{}, err
	}
	for _, b := range c.blobs {
		if there[b.Digest] {
			c.there += b.Size
		} else {
			b.From = c.mountFrom()
			c.missing = append(c.missing, b)
		}
	}
	done := outcome{total: c.there, there: c.there}
	if len(c.missing) > 0 {
		if done, err = c.bring(ctx); err != nil {
			return done, err
		}
	}
	done.blobs = len(c.blobs)
	parts := make([]pack.Part, len(c.manifests))
	for i, m := range c.manifests {
		parts[i].Manifest = m.Data
	}
	c.asked(c.to)
	if err := putManifests(ctx, c.target, parts, cmp.Or(c.to.Tag, c.to.Digest.String())); err != nil {
		return done, err
	}
	for _, m := range c.referrers { // behind what they refer to
		if err := c.target.PutManifest(ctx, "", m); err != nil {
			return done, err
		}
	}
	if c.placed != nil {
		return done, nil
	}
	return done, c.clear()
}

// bring takes blobs from the source to the target: as they come where that works, and the rest through the
// disk.
func (c *copier) bring(ctx context.Context) (outcome, error) {
	c.asked(c.to)
	if err := c.prober.mayPush(ctx); err != nil {
		return outcome{}, fmt.Errorf("%s: %w", c.to, err)
	}
	passed, err := c.pass(ctx)
	if err != nil || len(c.missing) == 0 {
		return passed, err
	}
	if c.placed != nil {
		return passed, c.placed
	}
	c.there += passed.moved
	done, err := c.move(ctx)
	done.there -= passed.moved
	done.moved += passed.moved
	done.took += passed.took
	return done, err
}

// pass passes blobs on as they come, and leaves in missing what has to go through the disk.
func (c *copier) pass(ctx context.Context) (outcome, error) {
	direct, kept, err := c.direct()
	if err != nil || len(direct) == 0 {
		return outcome{}, err
	}
	source, err := c.open(c.from, registry.Options{Client: c.via}, c.notes)
	if err != nil {
		return outcome{}, err
	}
	total := c.there + bytesOf(c.missing)
	f := newFollower(namesOf(c.manifests))
	meter := c.newMeter("copy", f.moving)
	meter.Update(c.there, total)
	c.notes.show(meter)
	s := &streamer{
		from: source, to: c.prober, pace: pacing.New(int64(c.limitRate)),
		told: func(b transfer.Blob, completed, moved int64) {
			f.moved(transfer.MoveInfo{Blob: b, Completed: completed})
			meter.Update(c.there+moved, total)
		},
		ended: func(b transfer.Blob) { f.ended(b) },
	}
	left, err := s.all(ctx, direct, cmp.Or(c.bodyConcurrency, streamsAtOnce))
	c.notes.show(nil)
	c.missing = append(left, kept...)
	return closeMeter(meter, len(direct)), err
}

// maxLost is the size of the largest blob of which nothing need be kept when a run ends in its middle.
const maxLost = 256 << 20 // 256 MiB

// direct returns the blobs that go from one registry to the other without the disk between, and those that do
// not: large ones in the middle of which an earlier run has ended. What is on the disk is continued by another
// run, what is not is fetched again. The directory of this copy is the sign of such a run.
func (c *copier) direct() (direct, kept []transfer.Blob, err error) {
	_, err = os.Lstat(c.dir)
	again, large := err == nil, false
	for _, b := range c.missing {
		if again && b.Size > maxLost {
			kept = append(kept, b)
			continue
		}
		direct, large = append(direct, b), large || b.Size > maxLost
	}
	if !large || c.placed != nil {
		return direct, kept, nil
	}
	return direct, kept, os.MkdirAll(c.dir, 0o777)
}

// bytesOf is the sum of the sizes of blobs.
func bytesOf(blobs []transfer.Blob) (size int64) {
	for _, b := range blobs {
		size += b.Size
	}
	return size
}

// clear removes the directory of this copy, and the one above it where that was made for it and has nothing
// else.
func (c *copier) clear() error {
	err := os.RemoveAll(c.dir)
	if c.made {
		_ = os.Remove(filepath.Dir(c.dir)) // fails where something is in it
	}
	return err
}

// mountFrom is the repository from which blobs may be mounted, or "".
func (c *copier) mountFrom() string {
	if c.dry || c.from.BaseURL() != c.to.BaseURL() || c.from.Repository == c.to.Repository {
		return ""
	}
	return c.from.Repository
}

// move takes blobs from the source to the target.
func (c *copier) move(ctx context.Context) (outcome, error) {
	p := &puller{app: c.app, ref: c.from, dir: c.dir, repo: c.source, notes: c.notes}
	names := namesOf(c.manifests)
	if _, err := p.download(ctx, c.missing, c.dir, c.there, names); err != nil {
		return outcome{}, err
	}
	c.asked(c.to)
	f := newFollower(names)
	meter := c.newMeter("push", f.moving)
	f.there = meter.There
	c.notes.show(meter)
	o := c.uploadOptions(c.target, c.notes.trace(c.app, f))
	o.SrcDir, o.Blobs = c.dir, c.missing
	o.Progress = func(completed, total int64) { meter.Update(completed+c.there, total+c.there) }
	err := transfer.Upload(ctx, o)
	c.notes.show(nil)
	return closeMeter(meter, len(c.missing)), err
}

// probe asks the target which blobs it has, and mounts those that it can.
func (c *copier) probe(ctx context.Context) (map[string]bool, error) {
	c.prober = newProber(c.via, c.to, c.target)
	there, err := c.prober.all(ctx, c.blobs, c.mountFrom())
	return there, errors.Join(err, context.Cause(ctx))
}
