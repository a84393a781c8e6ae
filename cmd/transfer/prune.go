package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/pack"
	"github.com/spf13/cobra"
)

// blobFilePattern is the name of a blob, or of what belongs to one: a partial, a journal.
var blobFilePattern = regexp.MustCompile(`^(sha[0-9]+-[0-9a-f]{64,128})(\.[a-z]+(-[0-9a-z]+)?)?$`)

func pruneCommand(a *app) *cobra.Command {
	var dry bool
	c := dirCommand("prune", "Remove blobs that no model of a directory needs",
		"Prune removes blobs that no manifest in DIR names, and what interrupted pulls have left. DIR is "+
			"as pull has made it, in any of its forms. Nothing may be pulled into it at the same time.",
		"  transfer prune --dry-run ~/.ollama/models\n  transfer prune ./model",
		func(ctx context.Context, dir string) error {
			return withHolding(dir, func(h *holding) error { return prune(ctx, a, dir, h, dry) })
		})
	c.Flags().BoolVar(&dry, "dry-run", false, "only list what would be removed")
	return c
}

// unneeded is a file that no model needs.
type unneeded struct {
	path string
	size int64
}

// prune removes what no model of a directory needs.
func prune(ctx context.Context, a *app, dir string, h *holding, dry bool) error {
	if h.partly {
		return fmt.Errorf(
			"%s: %w: a manifest is missing or wrong, and so it is not known which blobs are needed",
			dir,
			errDamaged,
		)
	}
	found, err := findUnneeded(dir, h)
	if err != nil {
		return err
	}
	size := int64(0)
	for _, u := range found {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !dry {
			if err := os.Remove(u.path); err != nil {
				return err
			}
		}
		size += u.size
		if a.json {
			a.event("removed", field{"path", u.path}, field{"bytes", u.size}, field{"dryRun", dry})
		} else if dry || a.verbose {
			a.say("%8s  %s", formatBytes(u.size), u.path)
		}
	}
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	a.say("%s %s, %s", verb, plural(len(found), "file"), formatBytes(size))
	return nil
}

// findUnneeded lists the blobs of a directory that nothing names.
func findUnneeded(dir string, h *holding) ([]unneeded, error) {
	needed := map[string]bool{}
	for _, i := range h.items {
		needed[filepath.Clean(i.path)] = true
	}
	var found []unneeded
	for _, place := range blobPlaces(dir, h.kind) {
		err := pack.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist): // it is gone, or nothing was ever pulled
				return nil
			case err != nil:
				return err
			case d.IsDir() && filepath.Clean(path) != filepath.Clean(place) && h.kind == pack.Blobs:
				return fs.SkipDir
			case d.IsDir() || !isBlobFile(h.kind, d.Name()) || needed[filepath.Clean(path)]:
				return nil
			}
			info, err := d.Info()
			if err == nil {
				found = append(found, unneeded{path, info.Size()})
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
	}
	return found, nil
}

// isBlobFile tells the files of blobs by their names: all in the directories of a layout are.
func isBlobFile(kind pack.Kind, name string) bool {
	if kind == pack.OCI {
		return !strings.HasPrefix(name, ".")
	}
	return blobFilePattern.MatchString(name)
}

// blobPlaces are the directories that have nothing but blobs under names of blobs.
func blobPlaces(dir string, kind pack.Kind) []string {
	switch kind {
	case pack.Blobs:
		return []string{dir}
	case pack.Ollama:
		return []string{filepath.Join(dir, "blobs")}
	case pack.OCI:
		return []string{filepath.Join(dir, "blobs"), filepath.Join(dir, pack.StateDir)}
	}
	return []string{filepath.Join(dir, pack.StateDir)}
}
