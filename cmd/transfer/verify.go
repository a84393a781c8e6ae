package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/modeltransfer/transfer/model"
	"github.com/spf13/cobra"
)

// dirCommand is a command that looks after one directory.
func dirCommand(
	name, short, long, example string, run func(ctx context.Context, dir string) error,
) *cobra.Command {
	return &cobra.Command{
		Use: name + " DIR", GroupID: "keep", Args: operands("DIR"),
		Short: short, Long: long, Example: example,
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args[0]) },
	}
}

func verifyCommand(a *app) *cobra.Command {
	var from string
	var most limits
	c := dirCommand("verify", "Hash every file of a pulled model, and repair what is wrong",
		"Verify hashes every file of a directory that pull has made, in any of its forms, and names those "+
			"that are wrong or missing. With --from it fetches them again.",
		"  transfer verify ./model\n  transfer verify ./model --from registry.example/me/model:v1",
		func(ctx context.Context, dir string) error { return verify(ctx, a, dir, from, most) })
	c.Flags().StringVar(&from, "from", "", "fetch what is wrong from the repository of this `REF`")
	most.addUnpacking(c.Flags())
	most.addManifests(c.Flags())
	return c
}

// verify hashes what is in a directory, and repairs it from where a reference says.
func verify(ctx context.Context, a *app, dir, from string, most limits) error {
	j, o := newJob(a, "pull"), model.VerifyOptions{Limits: most.model()}
	if from == "" {
		o.Options = j.told()
	} else {
		r, err := a.reference(from)
		if err != nil {
			return err
		}
		if o.Options, err = j.options(r); err != nil {
			return err
		}
		o.From = r.URL()
	}
	result, err := model.Verify(ctx, dir, o)
	j.close()
	for _, w := range result.Wrong {
		tellWrong(a, w)
	}
	return tellVerified(a, dir, result, wrongOption(err, ""))
}

func tellWrong(a *app, w model.WrongFile) {
	if a.json {
		a.event("wrong", field{"name", w.Name}, field{"digest", w.Digest}, field{"problem", w.Problem})
	} else {
		a.say("%s: %s", w.Name, w.Problem)
	}
}

// tellVerified tells what was found, and returns what is an error of it.
func tellVerified(a *app, dir string, r model.VerifyResult, err error) error {
	switch {
	case errors.Is(err, model.ErrUnfinished):
		return unfinished(r, err)
	case err != nil && !errors.Is(err, model.ErrDamaged):
		return err
	case r.Repaired:
		if a.json {
			a.event("repaired", field{"dir", dir}, field{"files", len(r.Wrong)})
		}
		a.say("repaired %d of %s in %s", len(r.Wrong), lookedAt(r), dir)
		return nil
	case a.json:
		a.event("verified", field{"dir", dir}, field{"files", r.Files}, field{"directories", r.Dirs},
			field{"bytes", r.Bytes}, field{"wrong", len(r.Wrong)})
	case err == nil:
		a.say("verified %s: %s, %s, all right", dir, lookedAt(r), formatBytes(r.Bytes))
	}
	if err != nil {
		return &damagedError{dir, len(r.Wrong), lookedAt(r), cmp.Or(r.Origin, "REF"), err}
	}
	return nil
}

// lookedAt says how many of what were looked at.
func lookedAt(r model.VerifyResult) string { return twoCounts(r.Files, "file", r.Dirs, "directory") }

// unfinished says what there is of a model that is not whole yet. That is an error in any case.
func unfinished(r model.VerifyResult, err error) error {
	blobs := plural(r.Files, "whole blob")
	if len(r.Wrong) > 0 {
		return fmt.Errorf(
			"%w; run the same pull again with --verify: %d of %s wrong", err, len(r.Wrong), blobs,
		)
	}
	if r.Files == 0 {
		return fmt.Errorf("%w; run the same pull again", err)
	}
	const right = "%w; run the same pull again (%s, %s, hashed and right)"
	return fmt.Errorf(right, err, blobs, formatBytes(r.Bytes))
}

// damagedError is a directory with files that are wrong.
type damagedError struct {
	dir   string
	wrong int
	all   string // of how many what
	from  string // where it came from
	err   error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("%s: %d of %s wrong or missing", e.dir, e.wrong, e.all)
}

func (e *damagedError) Unwrap() error { return e.err }
