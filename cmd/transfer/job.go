package main

import (
	"fmt"
	"time"
)

// job is one transfer between a reference and a directory.
type job struct {
	*app
	*settings
	ref reference
	dir string
}

// outcome is what a transfer came to.
type outcome struct {
	blobs int
	total int64 // bytes of all blobs
	moved int64 // of these, the bytes that were not there already
	took  time.Duration
}

func (o outcome) String() string {
	s := fmt.Sprintf("%d blobs, %s in %.1f s", o.blobs, formatBytes(float64(o.total)), o.took.Seconds())
	if there := o.total - o.moved; there > 0 {
		s += fmt.Sprintf(" (%s were there already)", formatBytes(float64(there)))
	}
	if o.moved == 0 || o.took <= 0 {
		return s
	}
	return fmt.Sprintf("%s, %s/s", s, formatBytes(float64(o.moved)/o.took.Seconds()))
}

// say tells how things go, unless --quiet.
func (j *job) say(format string, args ...any) {
	if !j.quiet {
		fmt.Fprintf(j.stdout, format+"\n", args...)
	}
}
