package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/model/unpack"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

var errDamaged = errors.New("the directory is damaged")

func verifyCommand(a *app) *cobra.Command {
	var from string
	var most limits
	c := dirCommand("verify", "Hash every file of a pulled model, and repair what is wrong",
		"Verify hashes every file of a directory that pull has made, in any of its forms, and names those "+
			"that are wrong or missing. With --from it fetches them again.",
		"  transfer verify ./model\n  transfer verify ./model --from registry.example/me/model:v1",
		func(ctx context.Context, dir string) error {
			return a.withHolding(ctx, dir, most, from != "", func(h *holding) error {
				return verifier{a, most}.verify(ctx, dir, h, from)
			})
		})
	c.Flags().StringVar(&from, "from", "", "fetch what is wrong from the repository of this `REF`")
	most.addUnpacking(c.Flags())
	most.addManifests(c.Flags())
	return c
}

// verifier hashes what is there.
type verifier struct {
	*app
	limits limits
}

// errNothing is a directory of which nothing can be said.
var errNothing = errors.New("there is nothing in it to verify")

// errUnfinished is a directory whose first pull was interrupted.
var errUnfinished = errors.New("a pull into it was interrupted, and no model is whole yet; run the same pull again")

func (a verifier) verify(ctx context.Context, dir string, h *holding, from string) error {
	if h.unfinished {
		return a.verifyUnfinished(ctx, dir, h)
	}
	if len(h.items) == 0 {
		return fmt.Errorf("%s: %w", dir, errNothing)
	}
	wrong, size, err := a.findWrong(ctx, h)
	if err != nil {
		return err
	}
	if len(wrong) == 0 {
		a.verified(dir, len(h.items), size, 0)
		return nil
	}
	if from == "" {
		a.verified(dir, len(h.items), size, len(wrong))
		damaged := &damagedError{dir: dir, wrong: len(wrong), all: len(h.items), from: "REF"}
		if h.dir != nil {
			damaged.from = recordedReference(h.dir.Record)
		}
		return damaged
	}
	if err := a.repair(ctx, dir, h, wrong, from); err != nil {
		return err
	}
	if a.json {
		a.event("repaired", field{"dir", dir}, field{"files", len(wrong)})
	}
	a.say("repaired %s of %s in %s", plural(len(wrong), "file"), plural(len(h.items), "file"), dir)
	return nil
}

// verifyUnfinished hashes what has come whole. That is no model: it is an error in any case.
func (a verifier) verifyUnfinished(ctx context.Context, dir string, h *holding) error {
	wrong, size, err := a.findWrong(ctx, h)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s: %w with --verify: %d of %s wrong", dir, errUnfinished, len(wrong),
			plural(len(h.items), "whole blob"))
	}
	return fmt.Errorf("%s: %w (%s, %s, are right)", dir, errUnfinished, plural(len(h.items), "whole blob"),
		formatBytes(size))
}

// recordedReference is where a record says that a directory came from. Who reads it may type it into a shell, and
// the record may be anybody's: what is no reference is not shown.
func recordedReference(r unpack.Record) string {
	if _, err := ref.Parse(r.Reference); err != nil {
		return "REF"
	}
	return r.Reference
}

func (a verifier) verified(dir string, all int, size int64, wrong int) {
	if a.json {
		a.event("verified", field{"dir", dir}, field{"files", all}, field{"bytes", size}, field{"wrong", wrong})
	} else if wrong == 0 {
		a.say("verified %s: %s, %s, all right", dir, plural(all, "file"), formatBytes(size))
	}
}

// damagedError is a directory with files that are wrong.
type damagedError struct {
	dir, from  string
	wrong, all int
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("%s: %d of %s wrong or missing", e.dir, e.wrong, plural(e.all, "file"))
}

func (e *damagedError) Unwrap() error { return errDamaged }

// findWrong hashes all items, names those that are wrong, and returns them and the size of all.
func (a verifier) findWrong(ctx context.Context, h *holding) (wrong []item, size int64, err error) {
	for _, i := range h.items {
		size += i.size
	}
	meter := a.newMeter("hash", nil)
	var problems []string
	done := int64(0)
	meter.Update(0, size)
	for _, i := range h.items {
		problem, err := i.check(ctx)
		if err != nil {
			meter.Close()
			return nil, 0, err
		}
		if problem != "" {
			wrong, problems = append(wrong, i), append(problems, problem)
		}
		done += i.size
		meter.Update(done, size)
	}
	meter.Close()
	for n, i := range wrong { // not before: it would tear the bar
		a.nameWrong(i, problems[n])
	}
	return wrong, size, nil
}

func (a verifier) nameWrong(i item, problem string) {
	if a.json {
		a.event("wrong", field{"name", i.name}, field{"digest", i.digest}, field{"problem", problem})
	} else {
		a.say("%s: %s", i.name, problem)
	}
}

// checkBlob says what is wrong with a blob at a path, or nothing.
func checkBlob(ctx context.Context, path string, b transfer.Blob) (problem string, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "missing", nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "not a file", nil
	case info.Size() != b.Size:
		return fmt.Sprintf("%d bytes instead of %d", info.Size(), b.Size), nil
	}
	want := digest.Digest(b.Digest)
	got, err := pack.HashFile(ctx, path, want.Algorithm())
	if err != nil {
		return "", err
	}
	if got != want {
		return "its content does not match its digest", nil
	}
	return "", nil
}

// repair fetches again what is wrong.
func (a verifier) repair(ctx context.Context, dir string, h *holding, wrong []item, from string) error {
	r, err := a.reference(from)
	if err != nil {
		return err
	}
	p := &puller{app: a.app, pullOptions: pullOptions{rehash: true, limits: a.limits}, ref: r, dir: dir, notes: new(notes)}
	if p.repo, err = a.remote(r, nil, p.notes); err != nil {
		return err
	}
	defer p.repo.CloseIdleConnections()
	var blobs []transfer.Blob
	seen := map[string]bool{}
	for _, i := range wrong {
		if !seen[i.blob.Digest] {
			seen[i.blob.Digest] = true
			blobs = append(blobs, i.blob)
		}
	}
	switch h.kind {
	case pack.Blobs:
		_, err = p.download(ctx, blobs, dir, 0, nil)
	case pack.Ollama:
		_, err = p.download(ctx, blobs, filepath.Join(dir, "blobs"), 0, nil)
	case pack.OCI:
		err = p.repairOCI(ctx, blobs)
	default:
		err = p.repairFiles(ctx, h, wrong, blobs)
	}
	return err
}

func (p *puller) repairOCI(ctx context.Context, blobs []transfer.Blob) error {
	layout, err := unpack.OpenOCI(p.dir)
	if err != nil {
		return err
	}
	defer layout.Close()
	if _, err := p.download(ctx, blobs, layout.Stage(), 0, nil); err != nil {
		return err
	}
	return errors.Join(layout.Place(blobs), layout.Done())
}

func (p *puller) repairFiles(ctx context.Context, h *holding, wrong []item, blobs []transfer.Blob) error {
	if _, err := p.download(ctx, blobs, h.dir.Stage(), 0, nil); err != nil {
		return err
	}
	titles := map[string]bool{}
	for _, i := range wrong {
		titles[i.entry] = true
	}
	var entries []unpack.Entry
	for _, e := range h.files {
		if titles[e.Title] {
			entries = append(entries, e)
		}
	}
	h.dir.Limits = p.limits.unpacking()
	if err := h.dir.Place(ctx, h.files, entries); err != nil {
		return err
	}
	return h.dir.Save()
}
