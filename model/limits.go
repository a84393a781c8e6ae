package model

import (
	"math"

	"github.com/modeltransfer/transfer/model/internal/unpack"
)

// Limits bound what a model may make of this machine. Zero means a bound that no real model meets; beyond it
// the error is a [*LimitError].
type Limits struct {
	// Bytes are the most that archives and copies may unpack to. Zero means 64 MiB and 64 times what was
	// fetched.
	Bytes int64

	// Files are the most files and directories. Zero means 100,000.
	Files int

	// Depth is how deep directories may be nested. Zero means 64.
	Depth int

	// Manifests are the most that an index may name, with those that they name. Zero means 512.
	Manifests int
}

func (l Limits) check() error {
	if l.Bytes < 0 || min(l.Files, l.Depth, l.Manifests) < 0 || max(l.Files, l.Manifests) > math.MaxInt32 {
		return optionf("", "a limit is negative or too large")
	}
	return nil
}

func (l Limits) unpacking() unpack.Limits {
	return unpack.Limits{Bytes: l.Bytes, Files: l.Files, Depth: l.Depth}
}
