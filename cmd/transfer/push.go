package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/names"
	"github.com/modeltransfer/transfer/model/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

// Values of --type.
const (
	typeAuto      = "auto"
	typeFiles     = "files"
	typeModelPack = "modelpack"
	typeOllama    = "ollama"
)

// pushOptions are the flags that only push has.
type pushOptions struct {
	kind         string
	model        string
	tar          bool
	artifactType string
	mediaType    string
	annotations  map[string]string
	parts        map[string]*[]string // of an Ollama model, by pack.OllamaParts
	choice       pack.Choice
	dry          bool
	subject      *ocispec.Descriptor // what it is attached to
	limits       limits
}

func pushCommand(a *app) *cobra.Command {
	o := pushOptions{parts: map[string]*[]string{}}
	c := &cobra.Command{
		Use: "push PATH... REF", Short: "Send a model to a registry", GroupID: "move",
		Long: "Push sends files, or a directory as pull has made it: blobs with a manifest.json, an OCI layout, " +
			"or Ollama's models directory. What the registry has already is not sent again.",
		Example: "  transfer push model.gguf README.md registry.example/me/model:v1\n" +
			"  transfer push --type modelpack ./model registry.example/me/model:v1\n" +
			"  transfer push --type ollama model.gguf --template t.txt registry.example/me/m\n" +
			"  transfer push ~/.ollama/models --model llama3.2:1b registry.example/me/m",
		Args: pushOperands,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.limits.check(); err != nil {
				return err
			}
			return pusher{a, o}.push(cmd.Context(), args[:len(args)-1], args[len(args)-1])
		},
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(
		&o.kind, "type", typeAuto, "what to make of files: `TYPE` files, modelpack (CNCF ModelPack) or ollama",
	)
	fs.StringVar(&o.model, "model", "", "the model of this `NAME`, where a directory has several")
	fs.BoolVar(&o.tar, "tar", false, "send each directory as one archive, as oras does")
	fs.StringVar(&o.artifactType, "artifact-type", "", "`TYPE` of the artifact, for files")
	fs.StringVar(&o.mediaType, "media-type", "", "`TYPE` of each file, for files")
	fs.StringToStringVar(
		&o.annotations, "annotation", nil, "annotation of the manifest, `KEY=VALUE`; may be repeated",
	)
	fs.Lookup("annotation").DefValue = "" // none
	fs.StringArrayVar(&o.choice.Exclude, "exclude", nil, "leave out files that match this `PATTERN`; may be repeated")
	fs.BoolVar(&o.dry, "dry-run", false, "only tell what would be sent")
	fs.BoolVar(&o.choice.FollowLinks, "follow-links", false, "send what links lead to that lead out of the directory")
	o.limits.addManifests(fs)
	for _, part := range pack.OllamaParts {
		o.parts[part] = fs.StringArray(part, nil, "`FILE` with the "+part+", for ollama")
	}
	return c
}

func pushOperands(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return usagef("push takes PATH... and REF")
	}
	if slices.Contains(args, "") {
		return usagef("a PATH or REF is empty; . is the current directory")
	}
	_, missing := os.Stat(args[0])
	last, err := os.Stat(args[len(args)-1])
	if missing != nil && err == nil && (last.IsDir() || hasHost(args[0])) && len(args) == 2 {
		return usagef("push takes the directory first: transfer push %s %s", args[1], args[0])
	}
	return nil
}

// source is what a push sends.
type source struct {
	what  string // for people
	dir   string // where the blobs are
	parts []pack.Part
	stage *pack.Stage // nil where nothing had to be staged

	// manifest is the file of the manifest where it has one.
	manifest string
}

func (s *source) close() error {
	if s.stage == nil {
		return nil
	}
	return s.stage.Close()
}

// pusher is one push.
type pusher struct {
	*app
	pushOptions
}

func (a pusher) push(ctx context.Context, paths []string, name string) (err error) {
	start := time.Now()
	r, err := a.reference(name)
	if err != nil {
		return err
	}
	src, err := a.openSource(ctx, paths, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	last := src.parts[len(src.parts)-1]
	dg := digest.FromBytes(last.Manifest)
	if r.Digest != "" {
		if dg = r.Digest.Algorithm().FromBytes(last.Manifest); dg != r.Digest {
			return fmt.Errorf(
				"%s: %w: the manifest is %s, not %s", cmp.Or(src.manifest, src.what), transfer.ErrDigestMismatch, dg,
				r.Digest,
			)
		}
	}
	if a.source != "" {
		if err := checkLinks(ctx, a.source, src); err != nil {
			return err
		}
	}
	if a.dry {
		return a.plan(ctx, r, src, dg)
	}
	done, err := a.upload(ctx, r, src)
	if err != nil {
		return err
	}
	done.whole = time.Since(start)
	a.report("pushed", src.what, r, dg, done)
	return nil
}

// checkLinks hashes the blobs of a directory that are links before anything is sent: a wrong link may lead to what is
// nobody's business.
func checkLinks(ctx context.Context, dir string, src *source) error {
	kind := pack.KindOf(dir)
	for _, b := range mergeBlobs(src.parts) {
		path := pack.TreePath(dir, kind, digest.Digest(b.Digest))
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

// report tells what was moved, and the digest to pin it by.
func (a *app) report(verb, what string, r ref.Reference, dg digest.Digest, done outcome) {
	if a.json {
		a.event(verb, append([]field{{"reference", r.URL()}, {"digest", dg.String()}}, done.fields()...)...)
		return
	}
	switch verb {
	case "pulled":
		a.say("pulled %s to %s: %s", r, what, done)
	default:
		a.say("%s %s to %s: %s", verb, what, r, done)
	}
	a.say("digest %s", dg)
}

// upload sends the manifests of a source, each after its blobs.
func (a *app) upload(ctx context.Context, r ref.Reference, src *source) (outcome, error) {
	blobs, n := mergeBlobs(src.parts), new(notes)
	f := newFollower(namesOf(manifestsOf(src.parts)))
	meter := a.newMeter("push", f.moving)
	f.there = meter.There
	repo, err := a.target(ctx, r, n)
	if err != nil {
		meter.Close()
		return outcome{}, err
	}
	defer repo.CloseIdleConnections()
	n.show(meter)
	o := a.uploadOptions(repo, n.trace(a, f))
	o.SrcDir, o.Blobs, o.Progress = src.dir, blobs, meter.Update
	last := src.parts[len(src.parts)-1]
	if len(src.parts) == 1 {
		o.Manifest, o.ManifestRef = last.Manifest, cmp.Or(r.Tag, r.Digest.String())
	}
	err = transfer.Upload(ctx, o)
	n.show(nil)
	done := closeMeter(meter, len(blobs))
	if err != nil || len(src.parts) == 1 {
		return done, err
	}
	return done, putManifests(ctx, repo, src.parts, cmp.Or(r.Tag, r.Digest.String()))
}

func manifestsOf(parts []pack.Part) []registry.Manifest {
	manifests := make([]registry.Manifest, len(parts))
	for i, p := range parts {
		manifests[i] = registry.NewManifest(p.Manifest, "")
	}
	return manifests
}

// namesOf returns the names that manifests give their blobs, by digest.
func namesOf(manifests []registry.Manifest) map[string]string {
	names := map[string]string{}
	for _, m := range manifests {
		content, err := m.Content()
		if err != nil {
			continue // it is refused elsewhere
		}
		for _, l := range content.Layers {
			names[l.Digest] = cmp.Or(l.Annotations[pack.FilepathAnnotation], l.Title())
		}
	}
	return names
}

// putManifests pushes manifests under their digests and the last, which lists them, under its name.
func putManifests(ctx context.Context, repo *registry.Repository, parts []pack.Part, name string) error {
	for i, p := range parts {
		version := ""
		if i == len(parts)-1 {
			version = name
		}
		if err := repo.PutManifest(ctx, version, registry.NewManifest(p.Manifest, "")); err != nil {
			return err
		}
	}
	return nil
}

// mergeBlobs lists the blobs of all parts, each once.
func mergeBlobs(parts []pack.Part) []transfer.Blob {
	var blobs []transfer.Blob
	seen := map[string]bool{}
	for _, p := range parts {
		for _, b := range p.Blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				blobs = append(blobs, b)
			}
		}
	}
	return blobs
}

// openSource finds out what the paths are and makes a source of them.
func (a pusher) openSource(ctx context.Context, paths []string, r ref.Reference) (*source, error) {
	kind := pack.Plain
	if len(paths) == 1 && a.kind == typeAuto {
		kind = pack.KindOf(paths[0])
	}
	switch a.kind {
	case typeAuto, typeFiles, typeModelPack, typeOllama:
	default:
		return nil, usagef("--type %q is none of files, modelpack and ollama", a.kind)
	}
	if err := a.checkFlags(kind); err != nil {
		return nil, err
	}
	if kind != pack.Plain {
		a.source = paths[0]
	}
	switch kind {
	case pack.Blobs:
		return blobSource(paths[0])
	case pack.Ollama:
		m, err := pack.OpenOllama(paths[0], cmp.Or(a.model, ollamaMatch(paths[0], r)))
		if err != nil {
			return nil, err
		}
		return &source{what: m.Name, dir: filepath.Join(paths[0], "blobs"), parts: m.Parts}, nil
	}
	if len(paths) == 1 && kind == pack.Plain {
		if err := checkPlain(paths[0]); err != nil {
			return nil, err
		}
	}
	stage, err := pack.NewStage()
	if err != nil {
		return nil, err
	}
	src := &source{what: strings.Join(paths, " "), dir: stage.Dir, stage: stage}
	if kind == pack.OCI {
		var m pack.Model
		m, err = stage.OpenOCI(paths[0], a.model, a.limits.manifests)
		src.parts = m.Parts
	} else {
		var p pack.Part
		p, err = a.packFiles(ctx, stage, paths, r)
		err = wayOut(err)
		src.parts = []pack.Part{p}
	}
	if err != nil {
		return nil, errors.Join(err, stage.Close())
	}
	return src, nil
}

// checkFlags refuses flags that do nothing for what is pushed: who gives them expects something.
func (a pusher) checkFlags(kind pack.Kind) error {
	for _, part := range pack.OllamaParts {
		if a.kind != typeOllama && len(*a.parts[part]) > 0 {
			return usagef("--%s is for --type ollama", part)
		}
	}
	files := kind == pack.Plain && (a.kind == typeAuto || a.kind == typeFiles)
	switch {
	case a.model != "" && kind != pack.OCI && kind != pack.Ollama:
		return usagef("--model is for an OCI layout and for Ollama's models")
	case a.tar && !files:
		return usagef("--tar is for --type files")
	case a.artifactType != "" && !files:
		return usagef("--artifact-type is for --type files")
	case a.mediaType != "" && !files:
		return usagef("--media-type is for --type files")
	case len(a.choice.Exclude) > 0 && kind != pack.Plain:
		return usagef("--exclude is for files; what is sent here is a whole model")
	case a.choice.FollowLinks && kind != pack.Plain:
		return usagef("--follow-links is for files")
	case len(a.annotations) > 0 && (kind != pack.Plain || a.kind == typeOllama):
		return usagef("--annotation is for files")
	}
	return nil
}

// ollamaMatch is the name that the model of a reference would have in an Ollama directory, where
// there is one of that name.
func ollamaMatch(dir string, r ref.Reference) string {
	name := path.Base(r.Repository) + ":" + r.Tag
	if _, err := pack.OpenOllama(dir, name); err != nil {
		return ""
	}
	return name
}

// blobSource is a directory of blobs and their manifest.
func blobSource(dir string) (*source, error) {
	manifest := filepath.Join(dir, pack.ManifestName)
	data, err := pack.ReadManifest(manifest)
	if err != nil {
		return nil, err
	}
	blobs, err := registry.NewManifest(data, "").Blobs()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifest, err)
	}
	return &source{
		what: dir, dir: dir, manifest: manifest, parts: []pack.Part{{Manifest: data, Blobs: blobs}},
	}, nil
}

// checkPlain refuses a directory that was meant as something else than files.
func checkPlain(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
			return nil
		}
		return err
	}
	if len(entries) == 0 {
		return fmt.Errorf(
			"%s is empty; push takes files, or a directory with files, with blobs and a manifest.json, "+
				"an OCI layout or Ollama's models: %w",
			dir,
			fs.ErrNotExist,
		)
	}
	if pack.HasBlobs(dir) {
		return fmt.Errorf(
			"%s has blobs but no manifest.json; if a pull was interrupted, run it again: %w", dir, fs.ErrNotExist,
		)
	}
	return nil
}

// packFiles makes a manifest of files, after hashing them.
func (a pusher) packFiles(
	ctx context.Context, s *pack.Stage, paths []string, r ref.Reference,
) (pack.Part, error) {
	choice := a.choice
	choice.LeftOut = a.leftOut
	if err := names.CheckPatterns(choice.Exclude); err != nil {
		return pack.Part{}, usagef("%v", err)
	}
	options := pack.Options{
		ArtifactType: a.artifactType, MediaType: a.mediaType, Annotations: a.annotations, Subject: a.subject,
	}
	if a.tar {
		return s.Archives(ctx, paths, options, choice)
	}
	list := pack.Walk
	if a.kind == typeOllama { // it keeps no names
		list = pack.List
	}
	files, err := list(paths, choice)
	if err != nil {
		return pack.Part{}, err
	}
	meter := a.newMeter("hash", nil)
	digests, err := pack.Hash(ctx, files, meter.Update)
	meter.Close()
	if err != nil {
		return pack.Part{}, err
	}
	switch a.kind {
	case typeModelPack:
		return s.ModelPack(path.Base(r.Repository), files, digests, options)
	case typeOllama:
		return a.packOllama(ctx, s, files, digests)
	default:
		return s.Files(files, digests, options)
	}
}

// leftOut tells what is not pushed though nobody asked for that.
func (a pusher) leftOut(path string) {
	if a.json {
		a.event("leftOut", field{"path", path})
	}
	a.say("left out %s", path)
}

// wayOut says what to do about a link that is not followed.
func wayOut(err error) error {
	if errors.Is(err, pack.ErrLink) {
		return fmt.Errorf("%w; --follow-links sends that, --exclude leaves the link out", err)
	}
	if errors.Is(err, pack.ErrNotRegular) {
		return fmt.Errorf("%w; --exclude leaves it out", err)
	}
	return err
}

// packOllama makes an Ollama model of one GGUF file.
func (a pusher) packOllama(
	ctx context.Context, s *pack.Stage, files []pack.File, digests []digest.Digest,
) (pack.Part, error) {
	if len(files) != 1 {
		return pack.Part{}, usagef(
			"--type ollama takes one GGUF file, not %d; its other parts are named by flags",
			len(files),
		)
	}
	parts := map[string][]string{}
	for name, paths := range a.parts {
		parts[name] = *paths
	}
	return s.Ollama(ctx, files[0], digests[0], parts)
}
