package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// PullOptions say how [Pull] pulls. The zero value pulls the files of a model that has names, and the blobs
// of any other.
type PullOptions struct {
	Options

	// Form is the form of the directory.
	Form Form

	// Include and Exclude are patterns, as of [path.Match], of the files that are fetched and left out; a
	// pattern matches a whole name, its last element or a directory above it. They are for [Files].
	Include, Exclude []string

	// Platform is the one, such as linux/arm64, whose manifest of an index is pulled. Empty means that an
	// index is a [*PlatformError], and all of it for [OCILayout].
	Platform string

	// Verify hashes what is there already, and repairs it. False trusts what is recorded and not changed
	// since.
	Verify bool

	// Keep leaves files that somebody has edited or made. False replaces those that have the names of the
	// model's.
	Keep bool

	// Delete removes files that an earlier model has brought and this one has not. Edited ones stay.
	Delete bool

	// DryRun fetches nothing but manifests and changes nothing; the result says what would be. See [Plan].
	DryRun bool

	// Limits bound what the model may become.
	Limits Limits

	// Reuse are files, and directories with files, that may hold parts of the model, such as another version
	// of it: of a large GGUF or safetensors file only what they do not have is fetched. A version that the
	// directory has is used without a word. A path that is missing is an error; what is in the files is none,
	// and they are never written to. Links in a directory are not followed. Of its files, the first 4,096 of
	// 1 MiB and more are used.
	Reuse []string
}

// Pull fetches the model of a reference into a directory, which is made where it is missing, and removed
// where nothing came into it. What is there already is not fetched again. Errors match those of this package,
// of package registry and of [transfer.Download]; what has come till then stays, for the next call to
// continue. Calls may run at the same time, in several processes, on one directory: each blob is fetched
// once, as long as bytes of it come. A pull that brings none is waited for no longer than StallTimeout or
// RetryTimeout.
func Pull(ctx context.Context, reference, dir string, opts PullOptions) (Result, error) {
	p, err := newPuller(ctx, reference, dir, opts)
	if err != nil {
		return Result{}, err
	}
	defer p.repo.CloseIdleConnections()
	unmake := remembered(dir)
	if err = p.run(ctx); err != nil {
		unmake()
	}
	return p.result, err
}

// remembered notes which of a directory and those above it are missing. The function that it returns removes
// those in which there is nothing.
func remembered(dir string) (unmake func()) {
	var missing []string
	for at := filepath.Clean(dir); at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, at)
	}
	return func() {
		for _, made := range missing {
			_ = os.Remove(made)
		}
	}
}

// Plan tells what [Pull] would do with the same arguments: the result has what would be fetched as Missing,
// and what would become of files that are there as Changes. It is Pull with DryRun.
func Plan(ctx context.Context, reference, dir string, opts PullOptions) (Result, error) {
	opts.DryRun = true
	return Pull(ctx, reference, dir, opts)
}

// puller is one pull.
type puller struct {
	PullOptions
	ref    ref.Reference
	dir    string
	repo   *registry.Repository
	result Result

	reusable []string // files that may hold parts of the model
	pulse    *pulse
	shared   bool // another pull has hold of the directory, and was not waited for
}

func newPuller(ctx context.Context, reference, dir string, opts PullOptions) (*puller, error) {
	r, err := parse(ctx, reference)
	switch {
	case err != nil:
		return nil, err
	case dir == "":
		return nil, optionf("", "the directory is empty; . is the current one")
	}
	if err := opts.check(r); err != nil {
		return nil, err
	}
	p := &puller{PullOptions: opts, ref: r, dir: dir, result: Result{Reference: r, Form: opts.Form}}
	p.pulse = new(pulse)
	if p.reusable, err = reusable(ctx, opts.Reuse); err != nil {
		return nil, err
	}
	p.repo, err = Open(r, opts.Options)
	return p, err
}

func (o *PullOptions) check(r ref.Reference) error {
	switch o.Form {
	case Auto, Files, Blobs, OCILayout:
	case Ollama:
		if r.Tag == "" {
			return optionf("Form", "ollama needs a reference with a tag")
		}
	default:
		return optionf("Form", "%q is none of files, blobs, oci and ollama", o.Form)
	}
	return cmp.Or(
		checkPatterns("Include", o.Include), checkPatterns("Exclude", o.Exclude), o.Limits.check(),
	)
}

func checkPatterns(option string, patterns []string) error {
	if err := names.CheckPatterns(patterns); err != nil {
		return optionf(option, "has a %v", err)
	}
	return nil
}

// run pulls into the form that was asked for.
func (p *puller) run(ctx context.Context) error {
	m, err := p.repo.Manifest(ctx, p.ref.Version())
	if err != nil {
		return named(p.ref, err)
	}
	p.result.Digest = m.Digest
	if p.Form == OCILayout && p.Platform == "" {
		return p.layout(ctx, m)
	}
	chosen, platform, err := choosePlatform(ctx, p.repo, m, p.Platform)
	if err != nil {
		return named(p.ref, err)
	}
	p.result.Platform = platform
	return p.one(ctx, chosen)
}

func named(name any, err error) error { return fmt.Errorf("%v: %w", name, err) }

// choosePlatform returns the manifest of an index for a platform, and which platform that is. A manifest that
// is no index is chosen itself, for none.
func choosePlatform(
	ctx context.Context, repo *registry.Repository, m registry.Manifest, want string,
) (chosen registry.Manifest, platform string, err error) {
	chosen, err = repo.Platform(ctx, m, want)
	if !m.IsIndex() || err != nil && !errors.Is(err, registry.ErrPlatform) {
		return chosen, "", err
	}
	content, malformed := m.Content()
	switch {
	case malformed != nil:
		return m, "", malformed
	case err != nil:
		return m, "", &PlatformError{want, content.Manifests}
	}
	for _, d := range content.Manifests {
		if d.Digest == chosen.Digest {
			platform = d.Platform
		}
	}
	return chosen, platform, nil
}

// one pulls one manifest.
func (p *puller) one(ctx context.Context, m registry.Manifest) error {
	content, err := m.Content()
	if err != nil {
		return named(p.ref, err)
	}
	if p.Form == Auto {
		p.Form = Blobs
		if unpack.Titled(content) {
			p.Form = Files
		}
	}
	p.result.Form = p.Form
	const unchosen = "chooses among named files; this pull is of %s"
	switch {
	case p.Form != Files && len(p.Include) > 0:
		return optionf("Include", unchosen, p.Form)
	case p.Form != Files && len(p.Exclude) > 0:
		return optionf("Exclude", unchosen, p.Form)
	}
	switch p.Form {
	case Files:
		return p.files(ctx, m, content)
	case OCILayout:
		return p.layout(ctx, m)
	case Ollama:
		return p.ollama(ctx, m)
	}
	return p.blobs(ctx, m)
}

// turn says how the directory is waited for.
func (p *puller) turn() unpack.Turn {
	return p.pulse.turn(&p.Options, p.dir, func() {
		p.shared = true
		if p.Logger != nil {
			p.Logger.Warn("another pull into the directory brings nothing, pulling too",
				slog.String("dir", p.dir))
		}
	})
}

// blobs pulls blobs and their manifest.json.
func (p *puller) blobs(ctx context.Context, m registry.Manifest) error {
	if err := checkManifest(p.dir); err != nil {
		return err
	}
	if p.DryRun {
		return p.planBlobs(pack.Blobs, m)
	}
	unlock, err := unpack.Lock(ctx, p.dir, "", p.turn())
	if err != nil {
		return err
	}
	defer unlock()
	return p.allBlobs(ctx, pack.Blobs, m, p.dir, func() error {
		return unpack.WriteFile(filepath.Join(p.dir, pack.ManifestName), m.Data)
	})
}

// checkManifest refuses to replace a manifest.json that no pull of blobs has written: other programs have
// files of that name.
func checkManifest(dir string) error {
	name := filepath.Join(dir, pack.ManifestName)
	_, err := os.Lstat(name)
	_, malformed := pack.ReadPart(name)
	if err != nil || pack.KindOf(dir) == pack.Blobs && (malformed == nil || pack.HasBlobs(dir)) {
		return nil // what cannot be read is told by who writes it
	}
	return fmt.Errorf("%s: %w, and is not of a pull; pull into another directory", name, fs.ErrExist)
}

// ollama pulls into Ollama's models directory, where "ollama run" finds the model.
func (p *puller) ollama(ctx context.Context, m registry.Manifest) error {
	if p.DryRun {
		return p.planBlobs(pack.Ollama, m)
	}
	// Other models go beside this one: what they share is fetched once, as each blob is locked.
	unlock, err := unpack.LockOne(ctx, p.dir, digest.Digest(m.Digest).Encoded()[:16], p.turn())
	if err != nil {
		return err
	}
	defer unlock()
	stage, err := unpack.OllamaStage(p.dir)
	if err != nil {
		return err
	}
	return p.allBlobs(ctx, pack.Ollama, m, stage, func() error {
		return unpack.PutOllama(p.dir, p.ref.Host, p.ref.Repository, p.ref.Tag, m.Data)
	})
}

// allBlobs pulls blobs into a directory and writes their manifest last: where there is one, the model is
// whole.
func (p *puller) allBlobs(
	ctx context.Context, kind pack.Kind, m registry.Manifest, dir string, putManifest func() error,
) error {
	if err := p.planBlobs(kind, m); err != nil {
		return err
	}
	blobs, err := m.Blobs()
	if err != nil {
		return named(p.ref, err)
	}
	if err := p.download(ctx, blobs, dir, 0); err != nil {
		return err
	}
	return putManifest()
}

// planBlobs finds out which blobs of manifests are not there.
func (p *puller) planBlobs(kind pack.Kind, manifests ...registry.Manifest) error {
	blobs, err := blobsOf(manifests)
	if err != nil {
		return err
	}
	p.result.plan(blobs, namesOf(manifests), func(b transfer.Blob) bool {
		dg := digest.Digest(b.Digest)
		return dg.Validate() == nil && isSized(pack.TreePath(p.dir, kind, dg), b.Size)
	})
	return nil
}

// layout pulls a manifest, or an index with all it lists, into an OCI layout.
func (p *puller) layout(ctx context.Context, m registry.Manifest) error {
	tree, err := treeOf(ctx, p.repo, m, p.Limits.Manifests)
	if err != nil {
		return named(p.ref, err)
	}
	if err := p.planBlobs(pack.OCI, tree.All...); err != nil || p.DryRun {
		return err
	}
	unlock, err := unpack.Lock(ctx, p.dir, "", p.turn())
	if err != nil {
		return err
	}
	defer unlock()
	layout, err := unpack.OpenOCI(p.dir)
	if err != nil {
		return err
	}
	defer layout.Close()
	if err := p.fillLayout(ctx, layout, tree.All); err != nil {
		return err
	}
	for _, one := range tree.All {
		if err := layout.PutManifest(one); err != nil {
			return err
		}
	}
	if err := layout.Name(m, p.ref.Tag); err != nil || p.shared { // the other may need the stage
		return err
	}
	return layout.Done()
}

// fillLayout fetches the blobs that a layout lacks.
func (p *puller) fillLayout(ctx context.Context, layout *unpack.OCI, manifests []registry.Manifest) error {
	blobs, err := blobsOf(manifests)
	if err != nil {
		return err
	}
	var missing []transfer.Blob
	for _, b := range blobs {
		there, err := layout.There(b)
		if err != nil {
			return err
		}
		if p.Verify || !there {
			missing = append(missing, b)
		}
	}
	if err := p.stage(ctx, missing, layout.Stage(), pack.Size(blobs)-pack.Size(missing)); err != nil {
		return err
	}
	return layout.Place(ctx, missing)
}

// stage fetches blobs into a directory from where they get their places. What is there already is hashed: it
// may be anybody's.
func (p *puller) stage(ctx context.Context, blobs []transfer.Blob, dir string, there int64) error {
	staging := *p
	staging.Verify = true
	err := staging.download(ctx, blobs, dir, there)
	p.result = staging.result
	return err
}

// download fetches blobs into a directory. There is what the directory above has already; it counts as a part
// of the whole.
func (p *puller) download(ctx context.Context, blobs []transfer.Blob, dir string, there int64) error {
	tell(p.Begin, p.result)
	t := newTally(there, p.Progress)
	o := p.downloadOptions(p.ref, p.repo)
	o.Blobs, o.DestDir, o.Verify = blobs, dir, p.Verify
	o.Progress = func(completed, total int64) {
		p.pulse.moved.Store(true)
		t.progress(completed, total)
	}
	o.Reuse, o.Trace = append(p.reusable, p.earlier()...), t.received(p.Trace)
	var err error
	if len(blobs) > 0 {
		p.pulse.fetching.Store(true)
		if err = transfer.Download(ctx, o); err == nil {
			t.shared()
		}
		p.pulse.fetching.Store(false)
	} else {
		t.progress(0, 0)
	}
	t.count(&p.result)
	return lackOfRoom(err, p.result.Bytes-p.result.There-p.result.Moved-p.result.Reused, dir)
}
