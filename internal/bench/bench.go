package main

import (
	"cmp"
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
	"github.com/modeltransfer/transfer/internal/bench/programs"
	"github.com/modeltransfer/transfer/internal/bench/registry"
)

const (
	// repository is where all blobs are.
	repository = "library/bench"

	// defaultRounds is how often each contender runs where nothing else is said.
	defaultRounds = 5

	// hopelessFactor leaves a contender out of the rounds that follow a run that took so many times as long
	// as the best one of all: its figure is not in doubt. Fixed numbers on a link are left out sooner.
	hopelessFactor, hopelessFixed = 10, 1.5
)

// bench runs workloads.
type bench struct {
	options
	start    time.Time
	work     string // directory of all that is made
	diskDest string
	shelf    *shelf
	remote   *remote
	launcher launcher
}

// measure does what the flags ask for, and prints a table for each workload.
func measure(ctx context.Context, o options, out io.Writer) error {
	b, err := newBench(o)
	if err != nil {
		return err
	}
	samples, err := b.run(ctx, out)
	if o.record { // what is done is kept, whatever became of the rest
		docs := pages{dir: o.docs}
		err = errors.Join(err, docs.add(samples), docs.write())
	}
	return errors.Join(err, b.close())
}

func newBench(o options) (b *bench, err error) {
	b = &bench{options: o, start: time.Now()}
	if b.work, err = os.MkdirTemp(o.tmp, "transfer-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.diskDest, err = os.MkdirTemp(o.disk, "transfer-bench-"); err != nil {
		return nil, err
	}
	b.launcher = launcher{home: filepath.Join(b.work, "home"), timeout: o.timeout, start: here}
	if b.shelf, err = newShelf(filepath.Join(b.work, "blobs")); err != nil {
		return nil, err
	}
	if b.remote, err = startRegistry(here, b.shelf.dir, registry.Loopback); err != nil {
		return nil, err
	}
	return b, os.MkdirAll(b.launcher.home, 0o755)
}

// close stops the registry and removes all that was made.
func (b *bench) close() (err error) {
	if b.remote != nil {
		err = b.remote.stop()
	}
	return errors.Join(err, os.RemoveAll(b.work), os.RemoveAll(b.diskDest))
}

// run measures all workloads. On failure it returns what was measured before.
func (b *bench) run(ctx context.Context, out io.Writer) (all []sample, err error) {
	var errs []error
	for _, w := range b.workloads {
		if b.late() {
			errs = append(errs, fmt.Errorf("%s: no time is left", w.name))
			continue
		}
		w = w.scaled(b.scale)
		if len(b.contenders) > 0 {
			w.contenders = b.contenders
		}
		samples, err := b.workload(ctx, w)
		if ctx.Err() != nil {
			return all, err
		}
		if err != nil { // such as no network to be had; the others can be measured
			errs = append(errs, fmt.Errorf("%s: %w", w.name, err))
			continue
		}
		all = append(all, samples...)
		if err := writeTable(out, w, summarize(samples)); err != nil {
			return all, err
		}
	}
	return all, errors.Join(errs...)
}

// late tells whether all the time is used up.
func (b *bench) late() bool { return b.limit > 0 && time.Since(b.start) > b.limit }

// runner makes one run of a contender; the first round is 0 where there is one that does not count.
type runner func(ctx context.Context, name string, round int) (sample, error)

// workload runs all contenders in turn, in every round.
func (b *bench) workload(ctx context.Context, w workload) (samples []sample, err error) {
	if w.task != nil {
		return b.programs(ctx, w)
	}
	a := attempt{workload: w, full: make(map[string]time.Duration)}
	if w.update != nil {
		a.blobs = make([]contender.Blob, 1)
		a.blobs[0], a.old, err = b.shelf.update(w.update, w.bytes())
	} else {
		a.blobs, err = b.shelf.blobs(w)
	}
	if err != nil {
		return nil, err
	}
	return b.rounds(ctx, w, func(ctx context.Context, name string, round int) (sample, error) {
		return b.one(ctx, a, name, round)
	})
}

// programs runs whole programs.
func (b *bench) programs(ctx context.Context, w workload) (samples []sample, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	tools, dir := filepath.Join(cache, "transfer-bench"), b.work
	if w.task.Disk {
		dir = b.diskDest
	}
	if err := programs.Install(ctx, tools, filepath.Join("..", ".."), w.contenders); err != nil {
		return nil, err
	}
	stage, err := programs.NewStage(ctx, *w.task, tools, dir, b.timeout)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	return b.rounds(ctx, w, func(ctx context.Context, name string, round int) (sample, error) {
		o, err := stage.Run(ctx, name)
		return newSample(w, name, round, o, registry.Counts{}), err
	})
}

// rounds leaves a contender that has failed, or that is hopeless, out of the rounds that follow.
func (b *bench) rounds(ctx context.Context, w workload, one runner) (samples []sample, err error) {
	left := make(map[string]bool)
	best := 0.0
	first := b.firstRound(w)
	for round := first; round <= cmp.Or(b.options.rounds, w.rounds, defaultRounds); round++ {
		if round > max(first, 1) && b.late() {
			break
		}
		for _, name := range w.contenders {
			if left[name] {
				continue
			}
			s, err := one(ctx, name, round)
			if err != nil {
				return nil, err
			}
			failed := s.trouble() != ""
			if !failed && (best == 0 || s.of[wall] < best) {
				best = s.of[wall]
			}
			left[name] = failed || round > 0 && w.hopeless(name, s.of[wall], best)
			if round > 0 || failed {
				samples = append(samples, s)
			}
		}
	}
	return samples, nil
}

// firstRound is 0 where there is a run that does not count.
func (b *bench) firstRound(w workload) int {
	if b.warm && !w.limited() || w.kill {
		return 0
	}
	return 1
}

// attempt is what all runs of a workload share.
type attempt struct {
	workload
	blobs []contender.Blob
	old   string                   // the file of an older version, if there is one
	full  map[string]time.Duration // how long each contender takes that is not killed
}

// one makes a run, from an empty destination.
func (b *bench) one(ctx context.Context, a attempt, name string, round int) (s sample, err error) {
	j, err := b.job(a, name)
	if err != nil {
		return s, err
	}
	at, err := b.place(a.link)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if err := at.remote.Reset(a.knobs); err != nil {
		return s, err
	}
	j.BaseURL = at.remote.Base
	if full := a.full[name]; a.kill && full > 0 {
		after := time.Duration((0.1 + 0.8*rand.Float64()) * float64(full))
		if _, err := at.launcher.launch(ctx, j, after); err != nil && !errors.Is(err, errKilled) {
			return s, err
		}
	}
	outcome, err := at.launcher.launch(ctx, j, 0)
	if err != nil {
		return s, err
	}
	if round == 0 {
		a.full[name] = outcome.Wall
	}
	counts, err := at.remote.Counts()
	if err != nil {
		return s, err
	}
	s = newSample(a.workload, name, round, outcome, counts)
	s.check(a, j.Dir, counts.Uploaded)
	return s, nil
}

// job is what a contender is to do, where all is as it is to be before.
func (b *bench) job(a attempt, name string) (j contender.Job, err error) {
	j = contender.Job{Contender: name, Upload: a.upload, Repository: repository, Blobs: a.blobs,
		Dir: b.shelf.dir, Old: a.old, Near: b.shelf.dir}
	if b.profiles != "" {
		j.CPUProfile = filepath.Join(b.profiles,
			fmt.Sprintf("%s-%s.pprof", strings.ReplaceAll(a.workload.name, "/", "-"), name))
	}
	if a.upload {
		return j, nil
	}
	j.Dir = filepath.Join(b.work, "dest")
	if a.disk {
		j.Dir = filepath.Join(b.diskDest, "dest")
	}
	there := a.blobs[:int(float64(len(a.blobs))*a.present)]
	return j, b.shelf.prepare(j.Dir, there)
}
