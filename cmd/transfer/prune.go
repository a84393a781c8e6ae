package main

import (
	"context"

	"github.com/modeltransfer/transfer/model"
	"github.com/spf13/cobra"
)

func pruneCommand(a *app) *cobra.Command {
	var dry bool
	var most limits
	c := dirCommand("prune", "Remove blobs that no model of a directory needs",
		"Prune removes blobs that no manifest in DIR names, and stale files: what interrupted pulls have "+
			"left of unfinished blobs. DIR is as pull has made it, in any of its forms. Where no manifest "+
			"is there yet, whole blobs stay. "+
			"Nothing may be pulled into Ollama's models at the same time.",
		"  transfer prune --dry-run ~/.ollama/models\n  transfer prune ./model",
		func(ctx context.Context, dir string) error { return prune(ctx, a, dir, most, dry) })
	c.Flags().BoolVar(&dry, "dry-run", false, "only list what would be removed")
	most.addManifests(c.Flags())
	return c
}

// prune removes what no model of a directory needs.
func prune(ctx context.Context, a *app, dir string, most limits, dry bool) error {
	result, err := model.Prune(
		ctx, dir, model.PruneOptions{DryRun: dry, Limits: most.model(), Waiting: a.waiting},
	)
	for _, f := range result.Removed {
		if a.json {
			a.event("removed", field{"path", f.Path}, field{"bytes", f.Size}, field{"dryRun", dry})
		} else if dry || a.verbose {
			a.say("%8s  %s", formatBytes(f.Size), f.Path)
		}
	}
	if err != nil {
		return wrongOption(err, "")
	}
	if result.Empty {
		a.say("%s is empty: there is nothing of a pull in it", dir)
		return nil
	}
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	a.say("%s %s, %s", verb, plural(len(result.Removed), "file"), formatBytes(result.Bytes))
	if result.Kept > 0 {
		a.say(
			"kept %s: there is no manifest yet that says which are needed", plural(result.Kept, "whole blob"),
		)
	}
	return nil
}
