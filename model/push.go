package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PushOptions say what [Push] makes of paths. The zero value makes an artifact of files, as oras does, of
// plain files, and sends a directory that has a model in another form as it is.
type PushOptions struct {
	Options

	// Form is what is made of files: [Files], [ModelPack] or [Ollama].
	Form Form

	// Model is the name of the model that is sent, where a directory has several.
	Model string

	// Tar sends each directory as one archive.
	Tar bool

	// ArtifactType, MediaType (of each file) and Annotations (of the manifest) are for [Files]; ModelPack has
	// Annotations too. Empty means those that oras writes.
	ArtifactType, MediaType string
	Annotations             map[string]string

	// Parts are the files of an [Ollama] model besides its GGUF file: adapter, projector, template, system,
	// params and license.
	Parts map[string][]string

	// Exclude are patterns of files that are left out; see [PullOptions].
	Exclude []string

	// FollowLinks sends what links lead to that lead out of a directory. False means that such a link is
	// [ErrLink]: who made it may have meant what is nobody's business.
	FollowLinks bool

	// DryRun sends nothing; the result says what would be sent.
	DryRun bool

	// Limits bound what an OCI layout may list.
	Limits Limits
}

// Push sends files, or the model of a directory as [Pull] has made it, to the repository of a reference. What
// the registry has already is not sent again, and the manifest goes last: after a failure the tag is what it
// was. Errors match those of this package, of package registry and of [transfer.Upload]. Nothing is left on
// disk.
func Push(ctx context.Context, paths []string, reference string, opts PushOptions) (Result, error) {
	return (&pusher{PushOptions: opts}).push(ctx, paths, reference)
}

// Attach sends files as an artifact of their own whose subject is the model of a reference, such as a
// signature of it. It needs PushOptions.ArtifactType. The result has its reference.
func Attach(ctx context.Context, paths []string, reference string, opts PushOptions) (Result, error) {
	if opts.ArtifactType == "" {
		return Result{}, optionf("ArtifactType", "is needed, such as application/vnd.example.signature")
	}
	r, err := parse(ctx, reference)
	if err != nil {
		return Result{}, err
	}
	opts.Form = Files
	p := &pusher{PushOptions: opts}
	if p.subject, err = opts.describe(ctx, r); err != nil {
		return Result{Reference: r}, named(r, err)
	}
	return p.push(ctx, paths, r.Bare().URL()+":"+subjectTag)
}

// subjectTag stands for the digest of what is attached, which is not known before.
const subjectTag = "attached"

// describe describes the manifest that a reference names. What is attached goes to the registry: a mirror may
// have another under the tag.
func (o *Options) describe(ctx context.Context, r ref.Reference) (*ocispec.Descriptor, error) {
	options := o.registryOptions(r)
	options.Mirrors = nil
	repo, err := registry.Open(options)
	if err != nil {
		return nil, err
	}
	defer repo.CloseIdleConnections()
	m, err := repo.Manifest(ctx, r.Version())
	return &ocispec.Descriptor{
		MediaType: m.MediaType, Digest: digest.Digest(m.Digest), Size: int64(len(m.Data)),
	}, err
}

// pusher is one push.
type pusher struct {
	PushOptions
	subject *ocispec.Descriptor // of what is attached, or nil
	ref     ref.Reference
	result  Result
}

func (p *pusher) push(ctx context.Context, paths []string, reference string) (_ Result, err error) {
	r, err := parse(ctx, reference)
	if err != nil {
		return p.result, err
	}
	p.ref, p.result.Reference = r, r
	if err := p.check(paths); err != nil {
		return p.result, err
	}
	src, err := p.open(ctx, paths)
	if err != nil {
		return p.result, err
	}
	defer func() { err = errors.Join(err, src.stage.Close()) }()
	if err := p.name(src); err != nil {
		return p.result, err
	}
	if err := src.checkLinks(ctx); err != nil {
		return p.result, err
	}
	p.result.plan(src.blobs(), namesOf(src.manifests()), func(transfer.Blob) bool { return false })
	if p.DryRun {
		return p.result, p.plan(ctx, src)
	}
	return p.result, p.send(ctx, src)
}

func (p *pusher) check(paths []string) error {
	switch p.Form {
	case Auto, Files, ModelPack, Ollama:
	default:
		return optionf("Form", "%q is none of files, modelpack and ollama", p.Form)
	}
	if len(paths) == 0 || slices.Contains(paths, "") {
		return optionf("", "a path is empty, or there is none; . is the current directory")
	}
	return cmp.Or(checkPatterns("Exclude", p.Exclude), p.Limits.check())
}

// name finds the digest of what is sent, which must be that of the reference where that has one.
func (p *pusher) name(src *source) error {
	last := src.parts[len(src.parts)-1].Manifest
	dg := digest.FromBytes(last)
	if p.ref.Digest != "" {
		if dg = p.ref.Digest.Algorithm().FromBytes(last); dg != p.ref.Digest {
			return fmt.Errorf(
				"%s: %w: the manifest is %s, not %s",
				src.manifest, transfer.ErrDigestMismatch, dg, p.ref.Digest,
			)
		}
	}
	if p.subject != nil {
		p.ref = p.ref.WithDigest(dg)
		p.result.Reference = p.ref
	}
	p.result.Digest = dg.String()
	return nil
}

// plan finds out what the registry has.
func (p *pusher) plan(ctx context.Context, src *source) error {
	repo, err := p.openTarget(ctx, p.ref)
	if err != nil {
		return err
	}
	defer repo.CloseIdleConnections()
	blobs, options := src.blobs(), p.Options
	client, closeIdle := p.ownClient()
	defer closeIdle()
	options.Client = client
	there, err := newProber(options, p.ref, repo).all(ctx, blobs, "")
	if err != nil {
		return err
	}
	p.result.plan(blobs, namesOf(src.manifests()), func(b transfer.Blob) bool { return there[b.Digest] })
	return nil
}

// send sends the manifests of a source, each after its blobs.
func (p *pusher) send(ctx context.Context, src *source) error {
	repo, err := p.openTarget(ctx, p.ref)
	if err != nil {
		return err
	}
	defer repo.CloseIdleConnections()
	tell(p.Begin, p.result)
	t, name := newTally(0, p.Progress), cmp.Or(p.ref.Tag, p.ref.Digest.String())
	o := p.uploadOptions(p.ref, repo)
	o.SrcDir, o.Blobs, o.Progress, o.Trace = src.dir, src.blobs(), t.progress, t.uploaded(p.Trace)
	if len(src.parts) == 1 {
		o.Manifest, o.ManifestRef = src.parts[0].Manifest, name
	}
	err = transfer.Upload(ctx, o)
	t.count(&p.result)
	if err != nil || len(src.parts) == 1 {
		return err
	}
	return putManifests(ctx, repo, src.manifests(), name, func(m registry.Manifest) error {
		blobs, err := m.Blobs()
		if err != nil {
			return err
		}
		again := newTally(0, nil)
		o.Progress, o.Trace = again.progress, again.uploaded(p.Trace)
		o.Blobs, o.Manifest, o.ManifestRef = blobs, m.Data, m.Digest
		err = transfer.Upload(ctx, o)
		var sent Result
		again.count(&sent)
		p.result.moreMoved(sent.Moved)
		return err
	})
}

// putManifests pushes manifests under their digests and the last, which lists them, under its name. Where the
// registry lacks blobs that it said it has, they are sent again with their manifest, once.
func putManifests(
	ctx context.Context, repo *registry.Repository, manifests []registry.Manifest, name string,
	again func(registry.Manifest) error,
) error {
	for i, m := range manifests {
		version := ""
		if i == len(manifests)-1 {
			version = name
		}
		err := repo.PutManifest(ctx, version, m)
		if !m.IsIndex() && lacksBlobs(err) {
			if err = again(m); err == nil {
				err = repo.PutManifest(ctx, version, m)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lacksBlobs tells whether a manifest was refused because of blobs that are not there.
func lacksBlobs(err error) bool {
	e, ok := errors.AsType[*transfer.StatusError](err)
	return ok && slices.ContainsFunc(e.Errors, func(told transfer.RegistryError) bool {
		return told.Code == "MANIFEST_BLOB_UNKNOWN"
	})
}

// source is what a push sends.
type source struct {
	dir   string // where the blobs are
	parts []pack.Part
	stage *pack.Stage // nil where nothing had to be staged

	// tree is the directory whose model is sent as it is, of a kind, and manifest what is named where the
	// digest is another than it should be.
	tree     string
	kind     pack.Kind
	manifest string
}

func (s *source) manifests() []registry.Manifest {
	manifests := make([]registry.Manifest, len(s.parts))
	for i, p := range s.parts {
		manifests[i] = registry.NewManifest(p.Manifest, "")
	}
	return manifests
}

// blobs lists the blobs of all parts, each once.
func (s *source) blobs() []transfer.Blob {
	var blobs []transfer.Blob
	for _, p := range s.parts {
		blobs = append(blobs, p.Blobs...)
	}
	return pack.Distinct(blobs)
}

// checkLinks hashes the blobs of a directory that are links before anything is sent: a wrong link may lead to
// what is nobody's business.
func (s *source) checkLinks(ctx context.Context) error {
	if s.tree == "" {
		return nil
	}
	for _, b := range s.blobs() {
		path := pack.TreePath(s.tree, s.kind, digest.Digest(b.Digest))
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Type() != fs.ModeSymlink {
			continue // what is missing is told where it is sent
		}
		problem, err := checkBlob(ctx, path, b)
		if err == nil && problem != "" {
			err = fmt.Errorf("%w: %s is a link: %s", transfer.ErrDigestMismatch, path, problem)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
