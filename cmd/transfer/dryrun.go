package main

import (
	"fmt"

	"github.com/modeltransfer/transfer/model"
)

// tellPlanned tells what a command would do.
func tellPlanned(a *app, verb, what string, r model.Result) {
	for _, f := range r.Missing {
		tellMissing(a, f)
	}
	missing := r.Bytes - r.There
	if a.json {
		a.event("planned", field{"command", verb}, field{"reference", r.Reference.URL()},
			field{"digest", r.Digest}, field{"blobs", len(r.Files)}, field{"bytes", r.Bytes},
			field{"there", r.There}, field{"missing", missing})
		return
	}
	text := plural(len(r.Files), "blob")
	if verb == "pull" {
		text = pulledOf(r)
	}
	text += ", " + formatBytes(r.Bytes)
	if missing == 0 {
		text += ", all there already"
	} else {
		text += fmt.Sprintf(" (%s there already)", formatBytes(r.There))
	}
	a.say("would %s %s: %s", verb, what, text)
	a.say("digest %s", r.Digest)
}

// tellMissing lists one thing that would move.
func tellMissing(a *app, f model.File) {
	if a.json {
		a.event("missing", field{"name", fileName(f)}, field{"bytes", f.Size})
		return
	}
	a.say("%8s  %s", formatBytes(f.Size), fileName(f))
}
