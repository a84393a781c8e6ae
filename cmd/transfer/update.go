package main

import (
	"fmt"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/model"
)

// tellChanges tells what became of files that were in a directory already. With --quiet it warns of those
// that somebody has written and that are lost.
func tellChanges(a *app, changes []model.Change, dry bool) {
	for _, c := range changes {
		if a.json {
			a.event("changed", field{"what", string(c.Kind)}, field{"name", c.Name}, field{"from", c.From},
				field{"dryRun", dry})
			continue
		}
		switch text := changeText(c, dry); {
		case text == "":
		case a.quiet && c.Kind == model.Replaced && !dry:
			fmt.Fprintln(a.stderr, printable.Text(text))
		default:
			a.say("%s", text)
		}
	}
}

// changeText says a change as a person reads it.
func changeText(c model.Change, dry bool) string {
	verb := string(c.Kind)
	if dry {
		verb = map[model.ChangeKind]string{
			model.Renamed: "would rename", model.Replaced: "would replace", model.Kept: "would keep",
			model.Removed: "would remove",
		}[c.Kind]
	}
	why := "it was edited"
	if c.Own {
		why = "it is your own"
	}
	switch c.Kind {
	case model.Renamed:
		return verb + " " + c.From + " to " + c.Name
	case model.Replaced, model.Kept:
		return verb + " " + c.Name + ": " + why
	case model.Removed:
		return verb + " " + c.Name + ": the model has it no longer"
	case model.Edited:
		return c.Name + " stays: the model has it no longer, but it was edited"
	case model.Gone:
		return c.Name + " stays: the model has it no longer; --delete removes it"
	}
	return ""
}
