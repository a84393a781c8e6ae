package main

import (
	"errors"
	"fmt"

	"github.com/modeltransfer/transfer/model"
	"github.com/spf13/pflag"
)

// limits bound what a model may make of this machine. Zero leaves it to the defaults.
type limits struct {
	unpacked                byteSize
	files, depth, manifests int
}

// addUnpacking adds the flags of commands that write named files.
func (l *limits) addUnpacking(fs *pflag.FlagSet) {
	fs.Var(
		&l.unpacked, "max-unpacked",
		"most bytes that archives unpack to: `SIZE` (default 64 times the archives)",
	)
	fs.IntVar(&l.files, "max-files", 0, "most files and directories of a model: `N` (default 100000)")
	fs.IntVar(&l.depth, "max-depth", 0, "deepest directory of a model: `N` (default 64)")
}

// addManifests adds the flag of commands that read an index.
func (l *limits) addManifests(fs *pflag.FlagSet) {
	fs.IntVar(&l.manifests, "max-manifests", 0, "most manifests of an index: `N` (default 512)")
}

func (l *limits) model() model.Limits {
	return model.Limits{Bytes: int64(l.unpacked), Files: l.files, Depth: l.depth, Manifests: l.manifests}
}

// limitFlags has the flags that raise limits, by the names of these.
var limitFlags = map[string]string{
	"bytes": "max-unpacked", "files": "max-files", "depth": "max-depth",
	"manifests": "max-manifests",
}

// limitHint says how to raise a limit.
func limitHint(err error) string {
	over, ok := errors.AsType[*model.LimitError](err)
	if !ok {
		return ""
	}
	return fmt.Sprintf(
		"no model of this kind is known; if you trust its author, raise --%s", limitFlags[over.Limit],
	)
}
