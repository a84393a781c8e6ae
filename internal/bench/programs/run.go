package programs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// dropCaches is where Linux is told to forget what it has of files in memory.
const dropCaches = "/proc/sys/vm/drop_caches"

// setting is where the files are, and whether the system has them in memory.
type setting struct {
	name string
	dir  string
	cold bool
}

// settings are those that a workload is measured in.
func (o options) settings(workload string) []setting {
	all := []setting{{"memory", o.tmp, false}}
	if workload == "P1" || o.disk == "" {
		return all
	}
	all = append(all, setting{"disk, warm", o.disk, false})
	if f, err := os.OpenFile(dropCaches, os.O_WRONLY, 0); err == nil {
		_ = f.Close()
		all = append(all, setting{"disk, cold", o.disk, true})
	}
	return all
}

// sample is what a program took.
type sample struct {
	wall, cpu time.Duration
	failure   string
}

// stage is a setting in which programs run: a model, and a registry that has it.
type stage struct {
	options
	setting
	work  string
	model modelFiles
}

// runWorkload writes a table for each setting and direction.
func runWorkload(ctx context.Context, o options, workload string, out io.Writer) error {
	for _, s := range o.settings(workload) {
		if err := runSetting(ctx, o, workload, s, out); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func runSetting(ctx context.Context, o options, workload string, s setting, out io.Writer) (err error) {
	st := &stage{options: o, setting: s}
	if st.work, err = os.MkdirTemp(s.dir, "transfer-programs-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(st.work)) }()
	if st.model, err = makeModel(ctx, o, workload, filepath.Join(st.work, "source")); err != nil {
		return err
	}
	pushes, err := st.rounds(ctx, st.push)
	if err != nil {
		return err
	}
	if err := writeTable(out, workload+" push, "+s.name, o.names, pushes); err != nil || workload == "P1" {
		return err
	}
	d, err := startDistribution(ctx, o, filepath.Join(st.work, "registry"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	ref := d.ref("model")
	first := st.command(ctx, programs()[transferName].push(st.model, ref))
	if first.failure != "" {
		return errors.New(first.failure)
	}
	pulls, err := st.rounds(ctx, func(ctx context.Context, name string) (sample, error) {
		return st.pull(ctx, name, ref)
	})
	if err != nil {
		return err
	}
	return writeTable(out, workload+" pull, "+s.name, o.names, pulls)
}

// rounds runs all programs in turn, in every round. One that fails is left out from then on; the first
// round does not count.
func (s *stage) rounds(
	ctx context.Context,
	run func(context.Context, string) (sample, error),
) (map[string][]sample, error) {
	all := make(map[string][]sample)
	for round := range s.options.rounds + 1 {
		for _, name := range s.names {
			if n := len(all[name]); n > 0 && all[name][n-1].failure != "" {
				continue
			}
			got, err := run(ctx, name)
			if err != nil {
				return nil, err
			}
			if round > 0 || got.failure != "" {
				all[name] = append(all[name], got)
			}
		}
	}
	return all, nil
}

// push sends the model to a registry that is empty.
func (s *stage) push(ctx context.Context, name string) (got sample, err error) {
	dir := filepath.Join(s.work, "empty")
	d, err := startDistribution(ctx, s.options, dir)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, d.stop(), os.RemoveAll(dir)) }()
	if err := s.cool(); err != nil {
		return got, err
	}
	return s.command(ctx, programs()[name].push(s.model, d.ref("model"))), nil
}

// pull fetches the model into an empty directory.
func (s *stage) pull(ctx context.Context, name, ref string) (got sample, err error) {
	dir := filepath.Join(s.work, "pulled")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := s.cool(); err != nil {
		return got, err
	}
	got = s.command(ctx, programs()[name].pull(ref, dir))
	if got.failure == "" {
		got.failure = s.incomplete(dir)
	}
	return got, nil
}

// cool has the system write what the run before has left to write, so that it is not this one's load, and
// forget the files where the setting is cold.
func (s *stage) cool() error {
	if err := exec.Command("sync").Run(); err != nil || !s.cold {
		return err
	}
	return os.WriteFile(dropCaches, []byte("3"), 0)
}

// command runs a program.
func (s *stage) command(ctx context.Context, args []string) (got sample) {
	binary, err := s.find(args[0])
	if err != nil {
		return sample{failure: "not installed"}
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c := exec.CommandContext(ctx, binary, args[1:]...)
	home := filepath.Join(s.work, "home")
	c.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_CONFIG_HOME="+home,
		"PATH="+s.tools+string(filepath.ListSeparator)+os.Getenv("PATH"))
	var text bytes.Buffer
	c.Stdout, c.Stderr = &text, &text
	start := time.Now()
	err = c.Run()
	got.wall = time.Since(start)
	if err != nil {
		got.failure = fmt.Sprintf("%v: %.200s", err, reason(text.String()))
		return got
	}
	got.cpu = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	return got
}

// reason is what the last line that a program has written says, without what its logger adds.
func reason(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := lines[len(lines)-1]
	if _, message, ok := strings.Cut(last, "msg="); ok {
		last = message
	}
	return strings.ReplaceAll(last, "|", "/") // which would end the cell of a table
}

// incomplete compares the bytes in a directory with those of the model, and says what is wrong.
func (s *stage) incomplete(dir string) string {
	want, got := largest(s.model.dir), largest(dir)
	if got != want {
		return fmt.Sprintf("incomplete: the largest file has %d bytes, not %d", got, want)
	}
	return ""
}

// largest is the size of the largest file below a directory; 0 where there is none.
func largest(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			size = max(size, info.Size())
		}
		return nil
	})
	return size
}
