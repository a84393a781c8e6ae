package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/model/unpack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

// Values of --into.
const (
	intoAuto   = "auto"
	intoFiles  = "files"
	intoBlobs  = "blobs"
	intoOCI    = "oci"
	intoOllama = "ollama"
)

// pullOptions are the flags that only pull has.
type pullOptions struct {
	into             string
	platform         string
	include, exclude []string
	rehash           bool
	keep, del, dry   bool
	mirrors          urlList
	limits           limits
}

func pullCommand(a *app) *cobra.Command {
	var o pullOptions
	c := &cobra.Command{
		Use: "pull REF [DIR]", Short: "Fetch a model into a directory", GroupID: "move",
		Long: "Pull fetches a model into DIR, by default the model's name: its files under their names where it " +
			"has names, otherwise its blobs as sha256-... with their manifest.json. What is there already is not fetched again: after " +
			"a failure or Ctrl-C, run the same command again.",
		Example: "  transfer pull all-minilm ./all-minilm\n" +
			"  transfer pull --include '*.json' registry.example/me/model:v1 ./model\n" +
			"  transfer pull --into ollama all-minilm ~/.ollama/models\n" +
			"  transfer pull --mirror https://mirror.example registry.example/me/m ./model",
		Args: pullOperands,
		RunE: func(cmd *cobra.Command, args []string) error { return pull(cmd.Context(), a, args, o) },
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(
		&o.into, "into", intoAuto,
		"`FORM` of DIR: files, blobs, oci (an OCI layout) or ollama (its models directory)",
	)
	fs.StringArrayVar(&o.include, "include", nil, "fetch only files that match this `PATTERN`; may be repeated")
	fs.StringArrayVar(&o.exclude, "exclude", nil, "leave out files that match this `PATTERN`; may be repeated")
	fs.StringVar(&o.platform, "platform", "", "of an index, the manifest for this `OS/ARCH`")
	fs.BoolVar(&o.rehash, "verify", false, "hash the files that are there already, repair what is wrong")
	fs.BoolVar(&o.keep, "keep", false, "leave files that you have edited or made, instead of replacing them")
	fs.BoolVar(&o.del, "delete", false, "remove files of an earlier model that this one has not")
	fs.BoolVar(&o.dry, "dry-run", false, "only tell what would be fetched and changed")
	fs.Var(&o.mirrors, "mirror", "ask the registry at this `URL` first; may be repeated")
	o.limits.addUnpacking(fs)
	o.limits.addManifests(fs)
	return c
}

func pullOperands(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		return nil
	case 2:
	default:
		return usagef("pull takes REF and DIR")
	}
	if args[1] == "" {
		return usagef("DIR is empty; . is the current directory")
	}
	info, err := os.Stat(args[0])
	_, otherErr := os.Stat(args[1])
	isDir := err == nil && info.IsDir() || looksLikeDir(args[0])
	swapped := isDir && strings.ContainsAny(args[1], "/:") || !hasHost(args[0]) && hasHost(args[1])
	if otherErr != nil && swapped {
		return usagef("pull takes the reference first: transfer pull %s %s", args[1], args[0])
	}
	return nil
}

// looksLikeDir tells a path from a reference.
func looksLikeDir(s string) bool {
	return s == "." || s == ".." || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || filepath.IsAbs(s)
}

// hasHost tells whether an operand is a reference that names its registry.
func hasHost(s string) bool {
	if looksLikeDir(s) {
		return false
	}
	_, err := ref.ParseRepository(s)
	host, _, below := strings.Cut(s, "/")
	return err == nil && (strings.Contains(s, "://") || below && ref.IsHost(host))
}

// puller is one pull.
type puller struct {
	*app
	pullOptions
	ref   ref.Reference
	dir   string
	repo  *registry.Repository
	notes *notes
}

// pull fetches the model of a reference into a directory.
func pull(ctx context.Context, a *app, args []string, o pullOptions) error {
	if err := o.limits.check(); err != nil {
		return err
	}
	r, err := a.reference(args[0])
	if err != nil {
		return err
	}
	dir := path.Base(r.Repository)
	switch {
	case len(args) == 2:
		dir = args[1]
	case o.into == intoOllama:
		return usagef("--into ollama needs DIR, such as ~/.ollama/models")
	}
	p, start := &puller{app: a, pullOptions: o, ref: r, dir: dir, notes: new(notes)}, time.Now()
	if p.repo, err = a.remote(r, o.mirrors, p.notes); err != nil {
		return err
	}
	defer p.repo.CloseIdleConnections()
	m, done, err := p.run(ctx)
	if err != nil {
		return err
	}
	if p.dry {
		a.planned("pull", fmt.Sprintf("%s to %s", r, dir), r, m.Digest, done)
		return nil
	}
	done.whole = time.Since(start)
	a.report("pulled", dir, r, digest.Digest(m.Digest), done)
	return nil
}

// run pulls into the form that was asked for, and returns the manifest that the reference names.
func (p *puller) run(ctx context.Context) (registry.Manifest, outcome, error) {
	switch p.into {
	case intoAuto, intoFiles, intoBlobs, intoOCI, intoOllama:
	default:
		return registry.Manifest{}, outcome{}, usagef("--into %q is none of files, blobs, oci and ollama", p.into)
	}
	m, err := p.repo.Manifest(ctx, p.ref.Version())
	if err != nil {
		return m, outcome{}, fmt.Errorf("%s: %w", p.ref, err)
	}
	if p.into == intoOCI && p.platform == "" {
		done, err := p.intoOCI(ctx, m)
		return m, done, err
	}
	chosen, err := p.choosePlatform(ctx, p.ref, p.repo, m, p.platform)
	if err != nil {
		return m, outcome{}, fmt.Errorf("%s: %w", p.ref, err)
	}
	done, err := p.intoDir(ctx, chosen)
	return m, done, err
}

// noPlatform is what attestations of docker buildx have, which nobody wants to choose.
const noPlatform = "unknown/unknown"

// choosePlatform returns the manifest of an index for a platform, or says what there is to choose from.
func (a *app) choosePlatform(
	ctx context.Context, r ref.Reference, repo *registry.Repository, m registry.Manifest, platform string,
) (registry.Manifest, error) {
	if platform != "" && !m.IsIndex() {
		a.note("%s is no index of platforms; --platform %s chooses nothing", r, platform)
	}
	chosen, err := repo.Platform(ctx, m, platform)
	if !errors.Is(err, registry.ErrPlatform) {
		return chosen, err
	}
	content, err := m.Content()
	if err != nil {
		return m, err
	}
	var platforms []string
	for _, d := range content.Manifests {
		if d.Platform != "" && d.Platform != noPlatform {
			platforms = append(platforms, d.Platform)
		}
	}
	text := "it is an index of " + plural(len(content.Manifests), "manifest")
	if platform != "" {
		text += ", none of them for " + platform
	}
	switch {
	case len(platforms) > 0:
		text += "; choose with --platform " + strings.Join(platforms, ", ")
	case len(content.Manifests) > 0:
		one := r.WithDigest(digest.Digest(content.Manifests[0].Digest))
		text += "; choose one by its digest, such as " + one.String()
	}
	return m, &choiceError{text}
}

// choiceError is an index of which a manifest must be chosen.
type choiceError struct{ text string }

func (e *choiceError) Error() string { return e.text }
func (e *choiceError) Unwrap() error { return registry.ErrPlatform }

// intoDir pulls one manifest.
func (p *puller) intoDir(ctx context.Context, m registry.Manifest) (outcome, error) {
	content, err := m.Content()
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w", p.ref, err)
	}
	into := p.into
	if into == intoAuto {
		into = intoBlobs
		if unpack.Titled(content) {
			into = intoFiles
		}
	}
	if into != intoFiles && len(p.include)+len(p.exclude) > 0 {
		return outcome{}, usagef("--include and --exclude choose among named files; this pull is of %s", into)
	}
	switch into {
	case intoFiles:
		return p.intoFiles(ctx, m, content)
	case intoOCI:
		return p.intoOCI(ctx, m)
	case intoOllama:
		return p.intoOllama(ctx, m)
	}
	if p.dry {
		return p.planBlobs(pack.Blobs, m)
	}
	unlock, err := p.lock(ctx, p.dir, "")
	if err != nil {
		return outcome{}, err
	}
	defer unlock()
	return p.intoBlobs(ctx, m, p.dir, func() error {
		return unpack.WriteFile(filepath.Join(p.dir, pack.ManifestName), m.Data)
	})
}

// intoBlobs pulls blobs into a directory and writes their manifest last: where there is one, the
// model is whole.
func (p *puller) intoBlobs(
	ctx context.Context, m registry.Manifest, dir string, putManifest func() error,
) (outcome, error) {
	blobs, err := m.Blobs()
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w", p.ref, err)
	}
	done, err := p.download(ctx, blobs, dir, 0, namesOf([]registry.Manifest{m}))
	if err != nil {
		return done, err
	}
	return done, putManifest()
}

// intoOllama pulls into Ollama's models directory, where "ollama run" finds the model.
func (p *puller) intoOllama(ctx context.Context, m registry.Manifest) (outcome, error) {
	if p.ref.Tag == "" {
		return outcome{}, usagef("--into ollama needs a reference with a tag")
	}
	if p.dry {
		return p.planBlobs(pack.Ollama, m)
	}
	// Other models go beside this one: what they share is fetched once, as each blob is locked.
	unlock, err := p.lock(ctx, p.dir, digest.Digest(m.Digest).Encoded()[:16])
	if err != nil {
		return outcome{}, err
	}
	defer unlock()
	models, err := unpack.OpenOllama(p.dir)
	if err != nil {
		return outcome{}, err
	}
	defer models.Close()
	return p.intoBlobs(ctx, m, models.Stage(), func() error {
		return models.PutManifest(p.ref.Host, p.ref.Repository, p.ref.Tag, m.Data)
	})
}

// intoFiles pulls named files.
func (p *puller) intoFiles(
	ctx context.Context, m registry.Manifest, content registry.Content,
) (outcome, error) {
	entries, unnamed, err := unpack.Entries(content)
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w", p.ref, err)
	}
	if len(entries) == 0 && unnamed > 0 {
		return outcome{}, fmt.Errorf(
			"%s: none of its %s has a name; pull it with --into blobs", p.ref, plural(unnamed, "layer"),
		)
	}
	chosen, err := unpack.Filter(entries, p.include, p.exclude)
	if err != nil {
		return outcome{}, usagef("%v", err)
	}
	if len(chosen) == 0 && len(entries) > 0 {
		return outcome{}, fmt.Errorf("%s: no file matches; there are %s", p.ref, titles(entries))
	}
	if p.dry {
		return p.planFiles(ctx, entries, chosen)
	}
	unlock, err := p.lock(ctx, p.dir, "")
	if err != nil {
		return outcome{}, err
	}
	defer unlock()
	dir, err := unpack.Open(p.dir)
	if err != nil {
		return outcome{}, err
	}
	defer dir.Close()
	dir.Limits = p.limits.unpacking()
	dir.Update = unpack.Update{Keep: p.keep, Delete: p.del}
	done, err := p.fetchFiles(ctx, dir, entries, chosen)
	if err == nil {
		err = dir.Clear(ctx, entries)
	}
	if err == nil {
		// All of the model's files, because other patterns may have chosen others before.
		dir.Remember(p.ref.String(), m, entries)
		err = dir.Save()
	}
	if err == nil || dir.Update.Begun {
		p.tellChanges(dir.Update)
	}
	if err == nil && unnamed > 0 {
		p.say("left out %s without a name; --into blobs fetches all", plural(unnamed, "layer"))
	}
	return done, err
}

// fetchFiles fetches the entries that are not in the directory yet.
func (p *puller) fetchFiles(
	ctx context.Context, dir *unpack.Dir, all, entries []unpack.Entry,
) (outcome, error) {
	if err := dir.Prepare(all, entries); err != nil {
		return outcome{}, fmt.Errorf("%s: %w", p.ref, err)
	}
	missing, err := dir.Missing(ctx, entries, p.rehash)
	if err != nil {
		return outcome{}, err
	}
	dir.Reuse(ctx, all, missing)
	names := map[string]string{}
	for _, e := range missing {
		names[e.Layer.Digest] = e.Title
	}
	_, total := unpack.Blobs(entries)
	blobs, size := unpack.Blobs(missing)
	done, err := p.stage(ctx, blobs, dir.Stage(), max(total-size, 0), names)
	if err != nil {
		return done, err
	}
	if err := dir.Place(ctx, all, missing); err != nil {
		return done, err
	}
	done.blobs = len(entries)
	done.noun = "file"
	return done, nil
}

func titles(entries []unpack.Entry) string {
	const most = 10
	var names []string
	for _, e := range entries[:min(len(entries), most)] {
		names = append(names, e.Title)
	}
	if len(entries) > most {
		names = append(names, "...")
	}
	return strings.Join(names, ", ")
}

// intoOCI pulls a manifest, or an index with all it lists, into an OCI layout.
func (p *puller) intoOCI(ctx context.Context, m registry.Manifest) (outcome, error) {
	manifests, err := manifestTree(ctx, p.repo, m, p.limits.manifests)
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w", p.ref, err)
	}
	if p.dry {
		return p.planBlobs(pack.OCI, manifests...)
	}
	unlock, err := p.lock(ctx, p.dir, "")
	if err != nil {
		return outcome{}, err
	}
	defer unlock()
	layout, err := unpack.OpenOCI(p.dir)
	if err != nil {
		return outcome{}, err
	}
	defer layout.Close()
	var missing []transfer.Blob
	seen, total, size := map[string]bool{}, int64(0), int64(0)
	for _, one := range manifests {
		if one.IsIndex() {
			continue
		}
		blobs, err := one.Blobs()
		if err != nil {
			return outcome{}, fmt.Errorf("%s: %w", one.Digest, err)
		}
		for _, b := range blobs {
			if seen[b.Digest] {
				continue
			}
			seen[b.Digest] = true
			total += b.Size
			there, err := layout.There(b)
			if err != nil {
				return outcome{}, err
			}
			if p.rehash || !there {
				missing, size = append(missing, b), size+b.Size
			}
		}
	}
	done, err := p.stage(ctx, missing, layout.Stage(), total-size, namesOf(manifests))
	if err != nil {
		return done, err
	}
	if err := layout.Place(missing); err != nil {
		return done, err
	}
	for _, one := range manifests {
		if err := layout.PutManifest(one); err != nil {
			return done, err
		}
	}
	done.blobs = len(seen)
	return done, errors.Join(layout.Name(m, p.ref.Tag), layout.Done())
}

// manifestTree lists a manifest of a repository after all that it lists, each once.
func manifestTree(
	ctx context.Context, repo *registry.Repository, m registry.Manifest, most int,
) ([]registry.Manifest, error) {
	return pack.Tree(m.Digest, most, func(dg string) (registry.Manifest, error) {
		if dg == m.Digest {
			return m, nil
		}
		return repo.Manifest(ctx, dg)
	})
}

// stage fetches blobs into a directory from where they get their places. What is there already is hashed: it may
// be anybody's.
func (p *puller) stage(
	ctx context.Context, blobs []transfer.Blob, dir string, there int64, names map[string]string,
) (outcome, error) {
	staging := *p
	staging.rehash = true
	return staging.download(ctx, blobs, dir, there, names)
}

// download fetches blobs into a directory. There is what the directory above has already; it counts
// as a part of the whole.
func (p *puller) download(
	ctx context.Context, blobs []transfer.Blob, dir string, there int64, names map[string]string,
) (outcome, error) {
	f := newFollower(names)
	meter := p.newMeter("pull", f.moving)
	p.notes.show(meter)
	o := p.downloadOptions(p.repo, p.notes.trace(p.app, f))
	o.Blobs, o.DestDir, o.Verify = blobs, dir, p.rehash
	o.Progress = func(completed, total int64) { meter.Update(completed+there, total+there) }
	var err error
	if len(blobs) > 0 {
		err = transfer.Download(ctx, o)
	} else {
		meter.Update(there, there)
	}
	p.notes.show(nil)
	done := closeMeter(meter, len(blobs))
	need := done.total - done.there - done.moved
	if done.total == 0 { // it was refused before the first byte
		for _, b := range blobs {
			need += b.Size
		}
	}
	return done, lackOfRoom(err, need, dir)
}
