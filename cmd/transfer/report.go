package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/model"
)

// field is one member of an event.
type field struct {
	name  string
	value any
}

// event prints a line of --json. Fields that are empty strings or nil are left out.
func (a *app) event(name string, fields ...field) {
	line := appendField([]byte{'{'}, field{"event", name})
	for _, f := range fields {
		if f.value != "" && f.value != nil {
			line = appendField(append(line, ','), f)
		}
	}
	_, _ = a.stdout.Write(append(line, '}', '\n')) // the writer remembers that it failed
}

func appendField(line []byte, f field) []byte {
	value, err := json.Marshal(f.value)
	if err != nil {
		value = []byte(`null`)
	}
	return append(append(fmt.Appendf(line, "%q", f.name), ':'), printable.JSON(value)...)
}

// say tells how things go, unless --quiet or --json.
func (a *app) say(format string, args ...any) {
	if !a.quiet && !a.json {
		a.print(format, args...)
	}
}

// print writes a line of a result. What strangers have written may be in it.
func (a *app) print(format string, args ...any) {
	fmt.Fprintln(a.stdout, printable.Text(fmt.Sprintf(format, args...)))
}

// note tells on stderr what a person who waits wants to know, unless --quiet.
func (a *app) note(format string, args ...any) {
	text := printable.Text(fmt.Sprintf(format, args...))
	switch {
	case a.quiet:
	case a.json:
		a.event("note", field{"note", text})
	default:
		fmt.Fprintln(a.stderr, text)
	}
}

// A rate is told of what took at least so long or moved so much.
const (
	leastTook  = 500 * time.Millisecond
	leastMoved = 1_000_000
)

// outcome is what a transfer came to.
type outcome struct {
	blobs int
	what  string        // how many of what; "" is blobs
	total int64         // bytes of all blobs
	there int64         // of these, the bytes that were there already
	moved int64         // and those that came
	reuse int64         // and those that came from other files
	took  time.Duration // while bytes moved
	whole time.Duration // with hashing and unpacking; 0 means that there was none
}

// outcomeOf is what a call of package model has come to.
func outcomeOf(r model.Result) outcome {
	return outcome{
		blobs: len(r.Files), total: r.Bytes, there: r.There, moved: r.Moved, reuse: r.Reused, took: r.Took,
	}
}

// pulledOf says what a pull consists of.
func pulledOf(r model.Result) string {
	archives := 0
	for _, f := range r.Files {
		if f.Archive {
			archives++
		}
	}
	noun := "blob"
	if r.Form == model.Files {
		noun = "file"
	}
	return twoCounts(len(r.Files)-archives, noun, archives, "archive")
}

func (o outcome) String() string {
	s := fmt.Sprintf("%s, %s", cmp.Or(o.what, plural(o.blobs, "blob")), formatBytes(o.total))
	switch {
	case o.moved == 0 && o.reuse == 0:
		return s + ", all there already"
	case o.there > 0 && o.reuse > 0:
		s += fmt.Sprintf(" (%s there already, %s reused)", formatBytes(o.there), formatBytes(o.reuse))
	case o.there > 0:
		s += fmt.Sprintf(" (%s there already)", formatBytes(o.there))
	case o.reuse > 0:
		s += fmt.Sprintf(" (%s reused)", formatBytes(o.reuse))
	}
	s += fmt.Sprintf(" in %.1f s", max(o.took, o.whole).Seconds())
	if o.whole-o.took >= leastTook {
		s += fmt.Sprintf(", %.1f s of them moving", o.took.Seconds())
	}
	if o.took < leastTook && o.moved < leastMoved {
		return s // no rate can be told from so little
	}
	return fmt.Sprintf("%s, %s/s", s, formatBytes(int64(float64(o.moved)/o.took.Seconds())))
}

// fields are what an event says about an outcome.
func (o outcome) fields() []field {
	return []field{
		{"blobs", o.blobs},
		{"bytes", o.total},
		{"there", o.there},
		{"moved", o.moved},
		{"reused", o.reuse},
		{"seconds", max(o.took, o.whole).Seconds()},
	}
}
