package programs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/internal/bench/contender"
)

// dropCaches is where Linux is told to forget what it has of files in memory.
const dropCaches = "/proc/sys/vm/drop_caches"

// What a program does with a model.
const (
	Push = "push" // to a registry that is empty
	Pull = "pull" // into a directory that is new
	Copy = "copy" // to another registry, which is empty
)

// Task is what programs are to do.
type Task struct {
	What  string
	Model Model
	Disk  bool // all files are on a disk, otherwise in memory
	Cold  bool // and not in its cache
}

// Stage is where programs do a task in turn: a model, and a registry that has it where it is not pushed.
type Stage struct {
	Task
	tools, work string
	timeout     time.Duration
	model       modelFiles
	source      *distribution // nil for a push
}

// NewStage makes all that a task needs, below a directory. The caller must close it.
func NewStage(ctx context.Context, t Task, tools, dir string, timeout time.Duration) (s *Stage, err error) {
	s = &Stage{Task: t, tools: tools, timeout: timeout}
	if s.work, err = os.MkdirTemp(dir, "transfer-programs-"); err != nil {
		return nil, err
	}
	if err := s.fill(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stage) fill(ctx context.Context) (err error) {
	s.model, err = makeModel(ctx, s.Model, s.tools, filepath.Join(s.work, "source"))
	if err != nil || s.What == Push {
		return err
	}
	if s.source, err = startDistribution(ctx, s.tools, filepath.Join(s.work, "registry")); err != nil {
		return err
	}
	pushed := s.command(ctx, transfer(place{modelFiles: s.model}, s.source.place()))
	if pushed.Error != "" {
		return errors.New(pushed.Error)
	}
	return nil
}

// Close stops the registry and removes all files.
func (s *Stage) Close() (err error) {
	if s.source != nil {
		err = s.source.stop()
	}
	return errors.Join(err, os.RemoveAll(s.work))
}

// Run lets a program do the task once.
func (s *Stage) Run(ctx context.Context, name string) (r contender.Outcome, err error) {
	dir := filepath.Join(s.work, "target")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	from, to := place{modelFiles: s.model}, place{modelFiles: modelFiles{dir: dir, layout: dir}}
	if s.What != Push {
		from = s.source.place()
	}
	if s.What != Pull {
		target, err := startDistribution(ctx, s.tools, dir)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, target.stop()) }()
		to = target.place()
	}
	if err := s.cool(); err != nil {
		return r, err
	}
	if r = s.command(ctx, find(name).move(from, to)); r.Error == "" {
		r.Error = s.incomplete(dir)
	}
	return r, nil
}

// cool makes the system write what the run before has left to write, so that it is not this one's load, and
// forget the files where that is the task.
func (s *Stage) cool() error {
	if err := exec.Command("sync").Run(); err != nil || !s.Cold {
		return err
	}
	return os.WriteFile(dropCaches, []byte("3"), 0)
}

// command runs a program.
func (s *Stage) command(ctx context.Context, args []string) (r contender.Outcome) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(s.tools, args[0]), args[1:]...)
	home := filepath.Join(s.work, "home")
	c.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_CONFIG_HOME="+home,
		"PATH="+s.tools+string(filepath.ListSeparator)+os.Getenv("PATH"))
	var text bytes.Buffer
	c.Stdout, c.Stderr = &text, &text
	start := time.Now()
	err := c.Run()
	r.Wall = time.Since(start)
	if err != nil {
		r.Error = fmt.Sprintf("%v: %.200s", err, reason(text.String()))
		return r
	}
	r.CPU = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	return r
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

// incomplete says what is wrong with a directory that is to have the model, of a program or of a registry.
func (s *Stage) incomplete(dir string) string {
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
