package main

import (
	"github.com/modeltransfer/transfer/model/unpack"
)

// tellChanges tells what became of files that were in a directory already.
func (a *app) tellChanges(u unpack.Update) {
	for _, c := range u.Changes {
		if a.json {
			a.event("changed", field{"what", string(c.Kind)}, field{"name", c.Name}, field{"from", c.From},
				field{"dryRun", u.DryRun})
			continue
		}
		if text := changeText(c, u.DryRun); text != "" {
			a.say("%s", text)
		}
	}
}

// changeText says a change as a person reads it.
func changeText(c unpack.Change, dry bool) string {
	verb := string(c.Kind)
	if dry {
		verb = map[unpack.ChangeKind]string{
			unpack.Renamed: "would rename", unpack.Replaced: "would replace", unpack.Kept: "would keep",
			unpack.Removed: "would remove",
		}[c.Kind]
	}
	why := "it was edited"
	if c.Own {
		why = "no pull has put it there"
	}
	switch c.Kind {
	case unpack.Renamed:
		return verb + " " + c.From + " to " + c.Name
	case unpack.Replaced, unpack.Kept:
		return verb + " " + c.Name + ": " + why
	case unpack.Removed:
		return verb + " " + c.Name + ": the model has it no longer"
	case unpack.Edited:
		return c.Name + " stays: the model has it no longer, but it was edited"
	case unpack.Gone:
		return c.Name + " stays: the model has it no longer; --delete removes it"
	}
	return ""
}
