package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/internal/bench/contender"
	"github.com/modeltransfer/transfer/internal/bench/registry"
)

// repository is where all blobs are.
const repository = "library/bench"

// bench runs workloads.
type bench struct {
	options
	out      io.Writer
	work     string // directory of all that is made
	dest     string
	diskDest string
	shelf    *shelf
	remote   *remote
	launcher launcher
	samples  []sample

	registries int // that were started
}

func newBench(ctx context.Context, o options, out io.Writer) (b *bench, err error) {
	b = &bench{options: o, out: out}
	if b.work, err = os.MkdirTemp(o.tmp, "transfer-bench-"); err != nil {
		return nil, err
	}
	b.dest = filepath.Join(b.work, "dest")
	if b.diskDest, err = os.MkdirTemp(o.disk, "transfer-bench-"); err != nil {
		return nil, errors.Join(err, b.close())
	}
	b.launcher = launcher{exec: o.exec, home: filepath.Join(b.work, "home"), timeout: o.timeout, start: here}
	if b.shelf, err = newShelf(filepath.Join(b.work, "blobs")); err != nil {
		return nil, errors.Join(err, b.close())
	}
	if b.remote, err = startRegistry(here, b.shelf.dir, registry.Loopback, b.socket()); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, errors.Join(ctx.Err(), makeAll(b.launcher.home, o.cpu, o.mem, o.svg))
}

// socket is a new file for controlling a registry.
func (b *bench) socket() string {
	b.registries++
	return filepath.Join(b.work, fmt.Sprintf("control%d", b.registries))
}

func makeAll(dirs ...string) (err error) {
	for _, d := range dirs {
		if d != "" {
			err = errors.Join(err, os.MkdirAll(d, 0o755))
		}
	}
	return err
}

// close stops the registry and removes all that was made.
func (b *bench) close() (err error) {
	if b.remote != nil {
		err = b.remote.stop()
	}
	return errors.Join(err, os.RemoveAll(b.work), os.RemoveAll(b.diskDest))
}

// run does what the flags ask for.
func (b *bench) run(ctx context.Context) error {
	if b.growth {
		return errors.Join(b.grow(ctx), b.write())
	}
	for _, w := range b.workloads {
		w = w.scaled(b.scale)
		w.contenders = b.who(w)
		samples, err := b.workload(ctx, w)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if err := writeTable(b.out, w, summarize(samples)); err != nil {
			return err
		}
	}
	return b.write()
}

// write writes the files that the flags name.
func (b *bench) write() error {
	if b.csv != "" {
		if err := writeCSV(b.csv, b.samples); err != nil {
			return err
		}
	}
	if b.svg != "" {
		return drawCharts(b.svg, b.samples)
	}
	return nil
}

// workload runs all contenders in turn, in every round. One that fails is left out from then on.
func (b *bench) workload(ctx context.Context, w workload) (samples []sample, err error) {
	a := attempt{workload: w, list: filepath.Join(b.work, "list")}
	if a.blobs, err = b.shelf.blobs(w); err != nil {
		return nil, err
	}
	if err := contender.WriteList(a.list, a.blobs); err != nil {
		return nil, err
	}
	full := make(map[string]time.Duration) // by contender, of the run that does not count
	left := make(map[string]bool)          // out of the rounds that follow
	best := time.Duration(0)
	for a.round = b.firstRound(w); a.round <= b.rounds; a.round++ {
		for _, a.name = range w.contenders {
			if left[a.name] {
				continue
			}
			a.full = full[a.name]
			s, err := b.one(ctx, a)
			if err != nil {
				return nil, err
			}
			failed := s.trouble() != ""
			if !failed && (best == 0 || s.wall < best) {
				best = s.wall
			}
			left[a.name] = failed || w.hopeless(a.name, s.wall, best)
			if a.round > 0 || failed {
				samples = append(samples, s)
			}
			if a.round == 0 {
				full[a.name] = s.wall
			}
		}
	}
	b.samples = append(b.samples, samples...)
	return samples, nil
}

// firstRound is 0 where there is a run that does not count.
func (b *bench) firstRound(w workload) int {
	if b.warm && !w.cold || w.kill {
		return 0
	}
	return 1
}

// who are the contenders of a workload: those that were named or else its own.
func (b *bench) who(w workload) (all []string) {
	if len(b.contenders) == 0 {
		return w.contenders
	}
	for _, name := range b.contenders {
		if name == "floor" {
			all = append(all, w.floors()...)
			continue
		}
		all = append(all, name)
	}
	return all
}

// attempt is one run of one contender.
type attempt struct {
	workload
	blobs []contender.Blob
	list  string
	name  string
	round int
	full  time.Duration // how long it takes when it is not killed; 0 when that is to be found out
}

// one makes a run, from an empty destination.
func (b *bench) one(ctx context.Context, a attempt) (s sample, err error) {
	dir := b.dest
	if a.disk {
		dir = b.diskDest
	}
	there := a.blobs[:int(float64(len(a.blobs))*a.present)]
	if err := b.shelf.prepare(dir, there); err != nil {
		return s, err
	}
	if a.upload {
		dir = b.shelf.dir
	}
	at, err := b.place(a.link)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if err := at.remote.Reset(a.knobs); err != nil {
		return s, err
	}
	j := contender.Job{
		Contender: a.name, Upload: a.upload, BaseURL: at.remote.Base, Repository: repository,
		Dir: dir, List: a.list,
		CPUProfile: b.profile(b.cpu, a), MemProfile: b.profile(b.mem, a),
	}
	if a.kill && a.full > 0 {
		after := time.Duration((0.1 + 0.8*rand.Float64()) * float64(a.full))
		if _, err := at.launcher.launch(ctx, j, after); err != nil && !errors.Is(err, errKilled) {
			return s, err
		}
	}
	outcome, err := at.launcher.launch(ctx, j, 0)
	if err != nil {
		return s, err
	}
	counts, err := at.remote.Counts()
	if err != nil {
		return s, err
	}
	s = newSample(a, outcome, counts)
	s.check(a, dir)
	return s, nil
}

// profile is the file for a profile, none where no directory was given.
func (b *bench) profile(dir string, a attempt) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, fmt.Sprintf("%s-%s.pprof", strings.ReplaceAll(a.workload.name, "/", "-"), a.name))
}
