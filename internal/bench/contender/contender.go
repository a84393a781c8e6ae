// Package contender moves the same blobs with each of several programs and libraries, and
// measures what that takes.
package contender

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// defaultWorkers is how many blobs a contender moves at once that has no opinion of its own.
const defaultWorkers = 64

// errCannot is a workload that a contender is not made for, or a program that is not
// installed.
var errCannot = errors.New("cannot")

// Job is what a contender is to do.
type Job struct {
	Contender  string // its name, and after "@" a number of workers to use instead of its own choice
	Upload     bool   // otherwise it is a download
	BaseURL    string
	Repository string
	Dir        string // where the blobs are, or are to be
	Blobs      []Blob
	Old        string // file that has an older version of the blob; none when empty
	Near       string // directory that has the blobs, for who only copies them
	CPUProfile string // file to write; none when empty
}

// Blob is a blob to move.
type Blob struct {
	Digest string
	Size   int64
}

// File is the name of the blob's file.
func (b Blob) File() string { return strings.Replace(b.Digest, ":", "-", 1) }

// mover moves all blobs of a job.
type mover func(ctx context.Context, j *Job) error

// contender is one of those that are compared.
type contender struct {
	name, note       string
	download, upload mover // nil where it cannot
}

// contenders are all of them, the floor first.
func contenders() []contender {
	of := func(name, note string, open opener) contender {
		return contender{name, note, open.download, open.upload}
	}
	return []contender{
		of("floor", "no retries, guards or sync", newFloor),
		{"transfer", "", transferDownload, transferUpload},
		{"reuse", "transfer, beside an older version of the model", reuseDownload, nil},
		{"copy", "copies the new version from a directory, and hashes it", opener(nearby).download, nil},
		{"bodies", "transfer with a fixed BodyConcurrency", bodiesDownload, nil},
		{"first", "github.com/ollama/ollama/x/transfer v0.30.0", firstDownload, firstUpload},
		of("oras", "does not ask before it uploads", oras),
		of("ggcr", "", ggcr),
		of("regclient", "", regclientOf),
		{"aria2c", "verifies nothing; 16 connections", aria2cDownload, nil},
		{"curl", "verifies nothing", curlDownload, nil},
	}
}

// Names lists the contenders, the floor first.
func Names() (names []string) {
	for _, c := range contenders() {
		names = append(names, c.name)
	}
	return names
}

// find returns a contender by its name, with or without workers.
func find(name string) (contender, bool) {
	name, _, _ = strings.Cut(name, "@")
	for _, c := range contenders() {
		if c.name == name {
			return c, true
		}
	}
	return contender{}, false
}

// Note says what is to be known of a contender beside its figures.
func Note(name string) string {
	c, _ := find(name)
	return c.note
}

// Known reports whether there is such a contender.
func Known(name string) error {
	_, n, fixed := strings.Cut(name, "@")
	if _, ok := find(name); !ok {
		return fmt.Errorf("unknown contender %q, there are %s", name, strings.Join(Names(), ", "))
	}
	if v, err := strconv.Atoi(n); fixed && (err != nil || v < 1) {
		return fmt.Errorf("contender %q: %q is no number of workers", name, n)
	}
	return nil
}

// mover finds what does the job.
func (j *Job) mover() (mover, error) {
	if err := Known(j.Contender); err != nil {
		return nil, err
	}
	c, _ := find(j.Contender)
	m, what := c.download, "download"
	if j.Upload {
		m, what = c.upload, "upload"
	}
	if m == nil {
		return nil, fmt.Errorf("%w %s", errCannot, what)
	}
	return m, nil
}

// fixed is the number of workers that was asked for, 0 for the contender's choice.
func (j *Job) fixed() int {
	_, n, _ := strings.Cut(j.Contender, "@")
	v, _ := strconv.Atoi(n) // checked by Known
	return v
}

// workers is the number of workers for a contender that has none of its own.
func (j *Job) workers() int {
	if n := j.fixed(); n > 0 {
		return n
	}
	return defaultWorkers
}

// host is the registry's host and port.
func (j *Job) host() string { return strings.TrimPrefix(j.BaseURL, "http://") }

// name is the repository with its host, as the OCI libraries want it.
func (j *Job) name() string { return j.host() + "/" + j.Repository }

func (j *Job) blobURL(b Blob) string {
	return j.BaseURL + "/v2/" + j.Repository + "/blobs/" + b.Digest
}

func (j *Job) path(b Blob) string { return filepath.Join(j.Dir, b.File()) }

// each calls move for every blob, several at once, until one fails.
func (j *Job) each(ctx context.Context, move func(context.Context, Blob) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(j.workers())
	for _, b := range j.Blobs {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return move(ctx, b) })
	}
	return g.Wait()
}
