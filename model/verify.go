package model

import (
	"context"
	"errors"
	"slices"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
)

// VerifyOptions say what [Verify] does. The zero value hashes, and changes nothing.
type VerifyOptions struct {
	Options

	// From is a reference from whose repository what is wrong is fetched again. Empty means that nothing is.
	From string

	// Limits bound what a model of the directory may be.
	Limits Limits
}

// VerifyResult is what [Verify] has found.
type VerifyResult struct {
	// Form is that of the directory, and Origin the reference that it was pulled from, where that is known.
	Form   Form
	Origin string

	// Files and Dirs are how many files and directories there are, and Bytes the size of the files. Wrong are
	// those that are not what they should be.
	Files, Dirs int
	Bytes       int64
	Wrong       []WrongFile

	// Repaired says that those were fetched again.
	Repaired bool
}

// WrongFile is a file, or a blob, that is not what it should be.
type WrongFile struct {
	Name    string // of a blob its digest
	Digest  string // that it should have; empty of a directory or a link
	Problem string // as a person reads it
}

var (
	// ErrDamaged is a directory with files that are wrong.
	ErrDamaged = errors.New("the directory is damaged")

	// ErrNothing is a directory of which nothing can be said.
	ErrNothing = errors.New("there is nothing in it to verify")

	// ErrUnfinished is a directory whose first pull was interrupted: there are blobs in it, and no model yet.
	ErrUnfinished = errors.New("a pull into it was interrupted, and no model is whole yet")
)

// Verify hashes every file of a directory that [Pull] has made, in any form, and tells those that are wrong.
// The error matches [ErrDamaged] where there are some that were not repaired, and [fs.ErrNotExist] where the
// directory is none of Pull's. What could not be repaired stays as it was.
func Verify(ctx context.Context, dir string, opts VerifyOptions) (VerifyResult, error) {
	var result VerifyResult
	err := opts.withHolding(ctx, dir, opts.Limits, opts.From != "", func(h *holding) (err error) {
		result.Form, result.Origin = formOf(h.kind), h.origin()
		wrong, err := opts.findWrong(ctx, h.items, &result)
		switch {
		case err != nil:
			return err
		case h.unfinished:
			return named(dir, ErrUnfinished)
		case len(h.items) == 0:
			return named(dir, ErrNothing)
		case len(wrong) == 0:
			return nil
		case opts.From == "":
			return named(dir, ErrDamaged)
		}
		err = opts.repair(ctx, h, wrong, &result)
		result.Repaired = err == nil
		return err
	})
	return result, err
}

// findWrong hashes items, and returns those that are wrong.
func (o *VerifyOptions) findWrong(ctx context.Context, items []item, r *VerifyResult) ([]item, error) {
	var wrong []item
	hashed := r.Bytes
	for _, i := range items {
		if r.Bytes += i.size; i.isDir {
			r.Dirs++
		} else {
			r.Files++
		}
	}
	o.tellHashing(hashed, r.Bytes)
	for _, i := range items {
		problem, err := i.check(ctx)
		if err != nil {
			return nil, err
		}
		if problem != "" {
			wrong = append(wrong, i)
			r.Wrong = append(r.Wrong, WrongFile{i.name, i.digest, problem})
		}
		hashed += i.size
		o.tellHashing(hashed, r.Bytes)
	}
	return wrong, nil
}

// repair fetches again what is wrong.
func (o *VerifyOptions) repair(ctx context.Context, h *holding, wrong []item, r *VerifyResult) error {
	p, err := newPuller(ctx, o.From, h.path, PullOptions{Options: o.Options, Verify: true, Limits: o.Limits})
	if err != nil {
		return err
	}
	defer p.repo.CloseIdleConnections()
	if wrong, err = o.repairManifests(ctx, p, h, wrong, r); err != nil {
		return err
	}
	blobs := make([]transfer.Blob, len(wrong))
	for i, w := range wrong {
		blobs[i] = w.blob
	}
	blobs = pack.Distinct(blobs)
	p.result.plan(blobs, nil, func(transfer.Blob) bool { return false })
	switch h.kind {
	case pack.Blobs:
		return p.download(ctx, blobs, h.path, 0)
	case pack.Ollama:
		stage, err := unpack.OllamaStage(h.path)
		if err != nil {
			return err
		}
		return p.download(ctx, blobs, stage, 0)
	case pack.OCI:
		return p.repairLayout(ctx, blobs)
	}
	return p.repairFiles(ctx, h, wrong, blobs)
}

// repairManifests fetches again the manifests of a layout that are wrong: registries have them apart from
// blobs. What they name is known then, and looked at too. It returns the blobs that are wrong.
func (o *VerifyOptions) repairManifests(
	ctx context.Context, p *puller, h *holding, wrong []item, r *VerifyResult,
) (blobs []item, err error) {
	known := map[transfer.Blob]bool{}
	for {
		again := false
		for _, i := range h.items {
			known[i.blob] = true
		}
		for _, i := range wrong {
			if !h.manifests[i.digest] {
				blobs = append(blobs, i)
				continue
			}
			if again, err = true, p.repairManifest(ctx, i.digest); err != nil {
				return nil, err
			}
		}
		if !again {
			return blobs, nil
		}
		if h, err = holdingOf(p.dir, o.Limits); err != nil {
			return nil, err
		}
		more := slices.DeleteFunc(slices.Clone(h.items), func(i item) bool { return known[i.blob] })
		if wrong, err = o.findWrong(ctx, more, r); err != nil {
			return nil, err
		}
	}
}

func (p *puller) repairManifest(ctx context.Context, dg string) error {
	m, err := p.repo.Manifest(ctx, dg)
	if err != nil {
		return named(p.ref, err)
	}
	layout, err := unpack.OpenOCI(p.dir)
	if err != nil {
		return err
	}
	return errors.Join(layout.PutManifest(m), layout.Close())
}

func (p *puller) repairLayout(ctx context.Context, blobs []transfer.Blob) error {
	layout, err := unpack.OpenOCI(p.dir)
	if err != nil {
		return err
	}
	defer layout.Close()
	if err := p.download(ctx, blobs, layout.Stage(), 0); err != nil {
		return err
	}
	return errors.Join(layout.Place(ctx, blobs), layout.Done())
}

func (p *puller) repairFiles(ctx context.Context, h *holding, wrong []item, blobs []transfer.Blob) error {
	if err := p.download(ctx, blobs, h.dir.Stage(), 0); err != nil {
		return err
	}
	titles := map[string]bool{}
	for _, i := range wrong {
		titles[i.entry] = true
	}
	right := func(e unpack.Entry) bool { return !titles[e.Title] }
	entries := slices.DeleteFunc(slices.Clone(h.files), right)
	h.dir.Limits = p.Limits.unpacking()
	if err := h.dir.Place(ctx, h.files, entries); err != nil {
		return err
	}
	return h.dir.Save()
}
