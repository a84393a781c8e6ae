package model

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/opencontainers/go-digest"
)

// open finds out what the paths are and makes a source of them.
func (p *pusher) open(ctx context.Context, paths []string) (*source, error) {
	kind := pack.Plain
	if len(paths) == 1 && p.Form == Auto {
		kind = pack.KindOf(paths[0])
	}
	p.result.Form = formOf(kind)
	if err := p.checkFor(kind); err != nil {
		return nil, err
	}
	switch kind {
	case pack.Blobs:
		manifest := filepath.Join(paths[0], pack.ManifestName)
		part, err := pack.ReadPart(manifest)
		return &source{
			dir: paths[0], parts: []pack.Part{part}, tree: paths[0], kind: kind, manifest: manifest,
		}, err
	case pack.Ollama:
		m, err := pack.OpenOllama(paths[0], cmp.Or(p.Model, ollamaMatch(paths[0], p.ref)))
		p.result.Model = m.Name
		return &source{
			dir: filepath.Join(paths[0], "blobs"), tree: paths[0],
			parts: m.Parts, kind: kind, manifest: m.Name,
		}, err
	}
	return p.stage(ctx, paths, kind)
}

// stage gathers what is sent in a directory of its own.
func (p *pusher) stage(ctx context.Context, paths []string, kind pack.Kind) (*source, error) {
	if len(paths) == 1 && kind == pack.Plain {
		if err := checkPlain(paths[0]); err != nil {
			return nil, err
		}
	}
	stage, err := pack.NewStage()
	if err != nil {
		return nil, err
	}
	src := &source{dir: stage.Dir, stage: stage, manifest: strings.Join(paths, " ")}
	if kind == pack.OCI {
		var m pack.Model
		src.tree, src.kind = paths[0], kind
		m, err = stage.OpenOCI(paths[0], p.Model, p.Limits.Manifests)
		p.result.Model, src.parts = m.Name, m.Parts
	} else {
		var part pack.Part
		part, err = p.packFiles(ctx, stage, paths)
		src.parts = []pack.Part{part}
	}
	if err != nil {
		return nil, errors.Join(err, stage.Close())
	}
	return src, nil
}

// checkFor refuses options that do nothing for what is pushed: who sets them expects something.
func (p *pusher) checkFor(kind pack.Kind) error {
	plain := kind == pack.Plain
	files := plain && (p.Form == Auto || p.Form == Files)
	for part, paths := range p.Parts {
		switch {
		case !slices.Contains(pack.OllamaParts, part):
			return optionf("Parts", "has %q, which is none of %s", part, strings.Join(pack.OllamaParts, ", "))
		case p.Form != Ollama && len(paths) > 0:
			return onlyFor(Ollama, part)
		}
	}
	switch {
	case p.Model != "" && kind != pack.OCI && kind != pack.Ollama:
		return optionf("Model", "is for an OCI layout and for Ollama's models")
	case p.Tar && !files:
		return onlyFor(Files, "Tar")
	case p.ArtifactType != "" && !files:
		return onlyFor(Files, "ArtifactType")
	case p.MediaType != "" && !files:
		return onlyFor(Files, "MediaType")
	case len(p.Exclude) > 0 && !plain:
		return optionf("Exclude", "is for files; what is sent here is a whole model")
	case p.FollowLinks && !plain:
		return optionf("FollowLinks", "is for files")
	case len(p.Annotations) > 0 && (!plain || p.Form == Ollama):
		return optionf("Annotations", "is for files")
	}
	return nil
}

// ollamaMatch is the name that the model of a reference would have in an Ollama directory, where there is one
// of that name.
func ollamaMatch(dir string, r ref.Reference) string {
	name := path.Base(r.Repository) + ":" + r.Tag
	if _, err := pack.OpenOllama(dir, name); err != nil {
		return ""
	}
	return name
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
		return absentError(dir + " is empty; push takes files, or a directory with files, with blobs and a " +
			"manifest.json, an OCI layout or Ollama's models")
	}
	if pack.HasBlobs(dir) {
		return absentError(dir + " has blobs but no manifest.json; if a pull was interrupted, run it again")
	}
	return nil
}

// packFiles makes a manifest of files, after hashing them.
func (p *pusher) packFiles(ctx context.Context, s *pack.Stage, paths []string) (pack.Part, error) {
	choice := pack.Choice{Exclude: p.Exclude, FollowLinks: p.FollowLinks, LeftOut: func(path string) {
		p.result.LeftOut = append(p.result.LeftOut, path)
	}}
	options := pack.Options{
		ArtifactType: p.ArtifactType, MediaType: p.MediaType, Annotations: p.Annotations, Subject: p.subject,
	}
	if p.Tar {
		return s.Archives(ctx, paths, options, choice)
	}
	list := pack.Walk
	if p.Form == Ollama { // it keeps no names
		list = pack.List
	}
	files, err := list(paths, choice)
	if err != nil {
		return pack.Part{}, err
	}
	digests, err := pack.Hash(ctx, files, p.tellHashing)
	if err != nil {
		return pack.Part{}, err
	}
	switch p.Form {
	case ModelPack:
		return s.ModelPack(path.Base(p.ref.Repository), files, digests, options)
	case Ollama:
		return p.packOllama(ctx, s, files, digests)
	}
	return s.Files(files, digests, options)
}

// packOllama makes an Ollama model of one GGUF file.
func (p *pusher) packOllama(
	ctx context.Context, s *pack.Stage, files []pack.File, digests []digest.Digest,
) (pack.Part, error) {
	if len(files) != 1 {
		return pack.Part{}, optionf("Form",
			"ollama takes one GGUF file, not %d; its other parts have options", len(files))
	}
	return s.Ollama(ctx, files[0], digests[0], p.Parts)
}
