// Package programs compares whole programs that move models to and from a real registry, the reference
// implementation with its files on disk or in memory.
package programs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	workloads []string
	names     []string // of the programs
	rounds    int
	size      string // of the one big blob of the model
	tensors   int
	tools     string // directory of the programs
	checkout  string // of this module
	tmp, disk string
	timeout   time.Duration
}

// Main runs the workloads that args name, and writes their tables to out.
func Main(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := install(ctx, o, out); err != nil {
		return err
	}
	for _, name := range o.workloads {
		if err := runWorkload(ctx, o, name, out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// parse reads the flags.
func parse(args []string, out io.Writer) (o options, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	f := flag.NewFlagSet("bench programs", flag.ContinueOnError)
	f.SetOutput(out)
	workloads := f.String("workload", "P1,P2", "comma-separated `names`: P1 (50 bytes), P2 (the demo model)")
	names := f.String("programs", strings.Join(programNames(), ","),
		"comma-separated `names` of the programs; "+unsyncedName+" is transfer without its syncs (needs strace)")
	f.IntVar(&o.rounds, "rounds", 5, "measured runs of each program, after one that does not count")
	f.StringVar(&o.size, "size", "1G", "`size` of the big blob of the demo model")
	f.IntVar(&o.tensors, "tensors", 300, "number of small blobs of the demo model")
	f.StringVar(&o.tools, "tools", filepath.Join(cache, "transfer-bench"), "`directory` for the programs")
	f.StringVar(&o.checkout, "checkout", "../..", "`directory` of this module, whose program is built")
	f.StringVar(&o.tmp, "tmp", "/dev/shm", "`directory` in memory")
	f.StringVar(&o.disk, "disk", os.TempDir(), "`directory` on a real disk; empty for none")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "longest `time` of a run")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	split := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
	o.workloads, o.names = split(*workloads), split(*names)
	for _, name := range o.workloads {
		if name != "P1" && name != "P2" {
			return o, fmt.Errorf("unknown workload %q, there are P1 and P2", name)
		}
	}
	for _, name := range o.names {
		if _, ok := programs()[name]; !ok {
			return o, fmt.Errorf("unknown program %q, there are %s and %s",
				name, strings.Join(programNames(), ", "), unsyncedName)
		}
	}
	return o, nil
}
