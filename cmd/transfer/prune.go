package main

import (
	"context"
	"fmt"

	"github.com/modeltransfer/transfer/model/unpack"
	"github.com/spf13/cobra"
)

func pruneCommand(a *app) *cobra.Command {
	var dry bool
	var most limits
	c := dirCommand("prune", "Remove blobs that no model of a directory needs",
		"Prune removes blobs that no manifest in DIR names, and what interrupted pulls have left. DIR is "+
			"as pull has made it, in any of its forms. Where no manifest is there yet, whole blobs stay. "+
			"Nothing may be pulled into Ollama's models at the same time.",
		"  transfer prune --dry-run ~/.ollama/models\n  transfer prune ./model",
		func(ctx context.Context, dir string) error {
			return a.withHolding(ctx, dir, most, !dry, func(h *holding) error { return prune(ctx, a, dir, h, dry) })
		})
	c.Flags().BoolVar(&dry, "dry-run", false, "only list what would be removed")
	most.addManifests(c.Flags())
	return c
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
	needed := make(map[string]bool, len(h.items))
	for _, i := range h.items {
		needed[i.blob.Digest] = true
	}
	found, err := unpack.Leftovers(dir, h.kind, needed)
	if err != nil {
		return err
	}
	size := int64(0)
	for _, u := range found {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !dry {
			if err := u.Remove(dir); err != nil {
				return err
			}
		}
		size += u.Size
		if a.json {
			a.event("removed", field{"path", u.Path}, field{"bytes", u.Size}, field{"dryRun", dry})
		} else if dry || a.verbose {
			a.say("%8s  %s", formatBytes(u.Size), u.Path)
		}
	}
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	a.say("%s %s, %s", verb, plural(len(found), "file"), formatBytes(size))
	if h.unfinished && len(h.items) > 0 {
		a.say("kept %s: there is no manifest yet that says which are needed", plural(len(h.items), "whole blob"))
	}
	return nil
}
