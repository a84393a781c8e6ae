package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/spf13/cobra"
)

func copyCommand(a *app) *cobra.Command {
	var o model.CopyOptions
	var most limits
	c := &cobra.Command{
		Use: "copy REF REF", GroupID: "move",
		Short: "Copy a model from one registry or repository to another",
		Long: "Copy copies a model, or an index with all it lists, and what refers to them, such as " +
			"signatures. Within one registry blobs are mounted where it lets us. What the target lacks is " +
			"passed on as it comes; what cannot be passed on goes through a directory on this machine, " +
			"which is removed when all is copied. After a failure or Ctrl-C, run the same command again. " +
			"--username is for the registry of the second REF; log in to the other.",
		Example: "  transfer copy all-minilm registry.example/me/all-minilm\n" +
			"  transfer copy registry.example/me/model:v1 registry.example/team/model:v1",
		Args: operands("REF", "REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Limits = most.model()
			return copyModel(cmd.Context(), a, args[0], args[1], o)
		},
	}
	fs := c.Flags()
	fs.StringVar(&o.Platform, "platform", "", "of an index, copy the manifest for this `OS/ARCH` alone")
	fs.StringVar(&o.Dir, "dir", "", "keep blobs on their way below `DIR` (default in the user's cache)")
	fs.BoolVar(
		&o.NoReferrers, "no-referrers", false, "leave out signatures and what else refers to the model",
	)
	fs.BoolVar(&o.DryRun, "dry-run", false, "only tell what would be copied")
	most.addManifests(fs)
	return c
}

// copyModel copies a model from one reference to another.
func copyModel(ctx context.Context, a *app, source, target string, o model.CopyOptions) error {
	from, err := a.reference(source)
	if err != nil {
		return err
	}
	to, err := a.reference(target)
	if err != nil {
		return err
	}
	a.usernameFor = to.Registry() // the source may be anybody's
	j, start := newJob(a, "copy"), time.Now()
	if o.Options, err = j.options(to); err != nil {
		return err
	}
	result, err := model.Copy(ctx, from.URL(), to.URL(), o)
	j.close()
	if o.Platform != "" && result.Platform == "" && result.Digest != "" {
		a.noChoice(from, o.Platform)
	}
	if err != nil {
		return copyError(a, from, err)
	}
	if o.DryRun {
		tellPlanned(a, "copy", fmt.Sprintf("%s to %s", from, to), result)
		return nil
	}
	done := outcomeOf(result)
	done.whole = time.Since(start)
	tellCopied(a, from, result, done)
	return nil
}

// copyError is the error of a copy, with the flags that would help. The hint is about the registry that it
// is of.
func copyError(a *app, from ref.Reference, err error) error {
	if side, ok := errors.AsType[*model.SideError](err); ok {
		a.asking(side.Reference)
	}
	if errors.Is(err, model.ErrReferrers) {
		return fmt.Errorf("%w (--no-referrers leaves them out)", err)
	}
	return wrongOption(choice(from, err), "")
}

// tellCopied says what was copied.
func tellCopied(a *app, from ref.Reference, r model.Result, done outcome) {
	if a.json {
		a.event("copied", append([]field{
			{"reference", r.Reference.URL()}, {"digest", r.Digest}, {"referrers", r.Referrers},
		}, done.fields()...)...)
		return
	}
	with := ""
	if r.Referrers > 0 {
		with = ", with " + plural(r.Referrers, "referrer")
	}
	a.say("copied %s to %s: %s%s", from, r.Reference, done, with)
	a.say("digest %s", r.Digest)
}
