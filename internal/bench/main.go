// Command bench moves the same blobs with this module, with other libraries and programs, and with
// the least code that could do it, side by side, and prints what each of them took.
//
//	GOWORK=off go run . -workload D1,D5 -rounds 5
//	GOWORK=off go run . page
//
// The first measures what is named. The second measures the rows of docs/performance.md in a quarter of an
// hour, adds them to docs/performance/runs.csv, and writes tables and charts anew; "far" does so with the far
// links, twenty times each, and "updates" with those of docs/updates.md, in /dev/shm or another -tmp with
// 20 GB of space. "show" prints what the CSV has, and "tables" writes tables and charts only.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/internal/bench/contender"
	"github.com/modeltransfer/transfer/internal/bench/programs"
	"github.com/modeltransfer/transfer/internal/bench/registry"
)

// The program runs itself for the parts that need a process of their own.
const (
	roleRegistry  = "registry"
	roleContender = "contender"
)

// pageTime is how long measuring the rows of the page may take.
const pageTime = 15 * time.Minute

// options are the flags.
type options struct {
	workloads  []workload
	contenders []string // empty: those of the workload
	rounds     int
	warm       bool
	scale      float64
	timeout    time.Duration // of a run
	limit      time.Duration // of all
	tmp, disk  string
	docs       string
	record     bool
	profiles   string // directory for them
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	command := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	switch command {
	case roleRegistry:
		return serve(args, os.Stdin, out)
	case roleContender:
		return contender.Main(ctx, os.Stdin, out)
	}
	o, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	docs := pages{dir: o.docs}
	switch command {
	case "":
		return measure(ctx, o, out)
	case "page":
		o.workloads, o.record, o.limit = ofThePage(), true, cmp.Or(o.limit, pageTime)
		return measure(ctx, o, out)
	case "far":
		o.workloads, o.record = ofFarLinks(), true
		return measure(ctx, o, out)
	case "updates":
		o.workloads, o.record = updates(), true
		return measure(ctx, o, out)
	case "show":
		return docs.show(out)
	case "tables":
		return docs.write()
	}
	return fmt.Errorf("unknown command %q, there are page, far, updates, show and tables", command)
}

// serve is the process of the registry.
func serve(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("a directory and an address are wanted")
	}
	s, err := registry.Start(args[0], args[1])
	if err != nil {
		return err
	}
	return errors.Join(registry.Serve(s, in, out), s.Close())
}

// parse reads the flags.
func parse(args []string, out io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	names := f.String("workload", "D1,D2,D3,D4,D5,U1,U2,U3",
		"comma-separated `names`, or what they begin with, or all: "+workloadNames())
	who := f.String("contenders", "", "comma-separated `names`, each with @N for N workers: "+
		strings.Join(contender.Names(), ", ")+"; for whole programs "+strings.Join(programs.Names(), ", "))
	f.IntVar(&o.rounds, "rounds", 0, "measured runs of each contender (default 5, or as many as a row has)")
	f.BoolVar(&o.warm, "warm", true,
		"one run of each contender first that does not count, but for workloads that a slow link rules")
	f.Float64Var(&o.scale, "scale", 1, "size of the workloads")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "longest `time` of a run")
	f.DurationVar(&o.limit, "for", 0, "begin no workload and no further round of one after this `time` "+
		"(default none; of the page, 15m)")
	f.StringVar(&o.tmp, "tmp", defaultTmp(), "`directory` for blobs and destinations")
	f.StringVar(&o.disk, "disk", os.TempDir(), "`directory` on a real disk, for workloads that write to one")
	f.StringVar(&o.docs, "docs", filepath.Join("..", "..", "docs"), "`directory` of performance.md")
	f.BoolVar(&o.record, "record", false, "add the runs to the CSV of the docs, and write all tables anew")
	f.StringVar(&o.profiles, "cpuprofile", "", "`directory` for CPU profiles of contenders that are Go")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 0 || o.scale <= 0 {
		return o, errors.New("rounds and scale must be positive")
	}
	if o.record && o.scale != 1 {
		return o, errors.New("what a workload of another size took is not recorded")
	}
	return o, o.names(*names, *who)
}

// names looks up what was named.
func (o *options) names(workloads, contenders string) (err error) {
	o.contenders = list(contenders)
	for _, name := range o.contenders {
		if err := contender.Known(name); err != nil && !slices.Contains(programs.Names(), name) {
			return err
		}
	}
	o.workloads, err = findWorkloads(list(workloads))
	return err
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// defaultTmp is in memory where the system has a place for that.
func defaultTmp() string {
	const memory = "/dev/shm"
	if fi, err := os.Stat(memory); err == nil && fi.IsDir() {
		return memory
	}
	return os.TempDir()
}
