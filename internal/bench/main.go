// Command bench moves the same blobs with this module, with other libraries and programs, and with
// the least code that could do it, side by side, and prints what each of them took.
//
//	GOWORK=off go run . -workload D1,D5 -rounds 5
//	GOWORK=off go run . -workload W1 -rounds 20
//	GOWORK=off go run . programs -workload P1,P2
//
// The first moves blobs on this machine; the second over an emulated wide area network, as root; the third
// compares whole programs with a real registry.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
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

// rolePrograms compares whole programs instead.
const rolePrograms = "programs"

// options are the flags.
type options struct {
	workloads  []workload
	contenders []string // empty: those of the workload
	rounds     int
	warm       bool
	scale      float64
	timeout    time.Duration
	tmp, disk  string
	csv, svg   string
	from       string // a CSV of earlier runs
	cpu, mem   string // directories for profiles
	exec       []string
	growth     bool
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
	if len(args) == 4 && args[0] == roleRegistry {
		return serve(args[1], args[2], args[3], out)
	}
	if len(args) == 1 && args[0] == roleContender {
		return contender.Main(ctx, os.Stdin, out)
	}
	if len(args) > 0 && args[0] == rolePrograms {
		return programs.Main(ctx, args[1:], out)
	}
	o, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.from != "" {
		return show(o, out)
	}
	b, err := newBench(ctx, o, out)
	if err != nil {
		return err
	}
	return errors.Join(b.run(ctx), b.close())
}

// show prints and draws earlier runs.
func show(o options, out io.Writer) error {
	samples, err := readCSV(o.from)
	if err != nil {
		return err
	}
	for _, samples := range byWorkload(samples) {
		if err := writeTable(out, samples[0].workload, summarize(samples)); err != nil {
			return err
		}
	}
	if o.svg == "" {
		return nil
	}
	return errors.Join(makeAll(o.svg), drawCharts(o.svg, samples))
}

// serve is the process of the registry.
func serve(dir, address, socket string, out io.Writer) error {
	s, err := registry.Start(dir, address)
	if err != nil {
		return err
	}
	return errors.Join(registry.Serve(s, socket, out, os.Stdin), s.Close())
}

// parse reads the flags.
func parse(args []string, out io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	names := f.String("workload", "D1,D2,D3,D4,D5,U1,U2,U3", "comma-separated `names`: "+workloadNames())
	who := f.String("contenders", "",
		"comma-separated `names`, each with @N for N workers: "+strings.Join(contender.Names(), ", "))
	f.IntVar(&o.rounds, "rounds", 5, "measured runs of each contender")
	f.BoolVar(&o.warm, "warm", true,
		"one run of each contender first that does not count, but for workloads that a slow link rules")
	f.Float64Var(&o.scale, "scale", 1, "size of the workloads")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "longest `time` of a run")
	f.StringVar(&o.tmp, "tmp", defaultTmp(), "`directory` for blobs and destinations")
	f.StringVar(&o.disk, "disk", os.TempDir(), "`directory` on a real disk, for the workloads that write to one")
	f.StringVar(&o.csv, "csv", "", "`file` for every single run")
	f.StringVar(&o.svg, "svg", "", "`directory` for charts")
	f.StringVar(&o.from, "from", "",
		"show the runs of this `file`, which -csv has written, instead of making new ones")
	f.StringVar(&o.cpu, "cpuprofile", "", "`directory` for CPU profiles of the contenders that are Go")
	f.StringVar(&o.mem, "memprofile", "", "`directory` for allocation profiles, which slow the contenders down")
	prefix := f.String("exec", "", "`program` and arguments to run the contenders with, as in \"strace -c -f\"")
	f.BoolVar(&o.growth, "growth", false, "show how cost grows with blobs and workers, instead of the workloads")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.scale <= 0 {
		return o, errors.New("rounds and scale must be positive")
	}
	o.exec = strings.Fields(*prefix)
	return o, o.names(*names, *who)
}

// names looks up what was named.
func (o *options) names(workloads, contenders string) (err error) {
	for _, name := range list(contenders) {
		if err := contender.Known(name); err != nil {
			return err
		}
		o.contenders = append(o.contenders, name)
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
