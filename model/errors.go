package model

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/limit"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/modeltransfer/transfer/registry"
)

// Errors of a model or a directory. Those of registries and of blobs are in packages registry and transfer.
var (
	// ErrName is a file name that leads out of the directory, or that two files share.
	ErrName = names.ErrName

	// ErrUnnamed is a model of which no layer has a name: it can be pulled as [Blobs].
	ErrUnnamed = errors.New("has a name")

	// ErrNoMatch is a choice of files that chooses none.
	ErrNoMatch = errors.New("no file matches")

	// ErrPacked is an archive that cannot be unpacked. It can be pulled as [Blobs].
	ErrPacked = unpack.ErrPacked

	// ErrForm is a directory that has a model in another form.
	ErrForm = unpack.ErrForm

	// ErrChoice is a directory with several models of which none was named, and ErrNoModel a name that none
	// has. The errors list those that there are.
	ErrChoice  = pack.ErrChoice
	ErrNoModel = pack.ErrNoModel

	// ErrLink is a link that leads out of the directory that is pushed, or to what is left out of it, and
	// ErrNotRegular a pipe or a device in it, or a link to a directory or to nothing.
	ErrLink       = pack.ErrLink
	ErrNotRegular = pack.ErrNotRegular
)

// OptionError is an option that cannot be. It matches [transfer.ErrInvalidOption].
type OptionError struct {
	Option  string // the field's name, or empty
	Problem string // what follows it in a sentence
	Form    Form   // where the option is for this form alone; Problem is empty then
}

func (e *OptionError) Error() string {
	problem := e.Problem
	if e.Form != "" {
		problem = "is for Form " + string(e.Form)
	}
	if e.Option == "" {
		return "invalid option: " + problem
	}
	return "invalid option: " + e.Option + " " + problem
}

func (e *OptionError) Unwrap() error { return transfer.ErrInvalidOption }

func optionf(option, format string, args ...any) error {
	return &OptionError{Option: option, Problem: fmt.Sprintf(format, args...)}
}

func onlyFor(form Form, option string) error { return &OptionError{Option: option, Form: form} }

// PlatformError is an index of which one manifest must be chosen. It matches [registry.ErrPlatform].
type PlatformError struct {
	Platform  string                // that was asked for and is not there; empty where none was
	Manifests []registry.Descriptor // to choose from
}

func (e *PlatformError) Error() string {
	text := "it is an index of " + plural(len(e.Manifests), "manifest")
	if e.Platform != "" {
		text += ", none of them for " + e.Platform
	}
	return text
}

func (e *PlatformError) Unwrap() error { return registry.ErrPlatform }

// LimitError is a model that goes beyond [Limits]: Limit is bytes, files, depth or manifests, and Most its
// value.
type LimitError = limit.Error

// SpaceError is a download that finds no more space. It matches what has found that, such as
// [transfer.ErrInsufficientSpace].
type SpaceError struct {
	Dir  string
	Need int64 // bytes that are still to be fetched
	Free int64 // bytes that were free then, or -1 where that is not known
	Err  error
}

func (e *SpaceError) Error() string { return e.Err.Error() }
func (e *SpaceError) Unwrap() error { return e.Err }

// lackOfRoom adds to an error of a full disk how much is missing.
func lackOfRoom(err error, need int64, dir string) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, transfer.ErrInsufficientSpace) {
		return err
	}
	free, known := unpack.FreeSpace(dir) // now: what is empty in the end is removed
	if !known {
		free = -1
	}
	return &SpaceError{dir, need, free, err}
}

// plural writes a count with its noun: 1 blob, 2 blobs.
func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// absentError says what a directory lacks. It matches [fs.ErrNotExist], whose own words would say less.
type absentError string

func (e absentError) Error() string { return string(e) }

func (e absentError) Is(target error) bool { return target == fs.ErrNotExist }
