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
	for _, bound := range []struct {
		option      string
		value, most int64
	}{
		{"Limits.Bytes", l.Bytes, math.MaxInt64},
		{"Limits.Files", int64(l.Files), math.MaxInt32},
		{"Limits.Depth", int64(l.Depth), math.MaxInt64},
		{"Limits.Manifests", int64(l.Manifests), math.MaxInt32},
	} {
		if bound.value < 0 || bound.value > bound.most {
			return optionf(bound.option, "is negative or too large")
		}
	}
	return nil
}

func (l Limits) unpacking() unpack.Limits {
	return unpack.Limits{Bytes: l.Bytes, Files: l.Files, Depth: l.Depth}
}
