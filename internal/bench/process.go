package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/modeltransfer/transfer/internal/bench/contender"
	"github.com/modeltransfer/transfer/internal/bench/registry"
)

// remote is the registry's process.
type remote struct {
	registry.Control
	cmd   *exec.Cmd
	stdin io.WriteCloser // the process ends when it is closed
}

// starter starts a program somewhere, such as on one side of an emulated network.
type starter func(*exec.Cmd) error

// here starts a program on this machine.
func here(c *exec.Cmd) error { return c.Start() }

// startRegistry starts a registry for the blobs of dir at an address.
func startRegistry(start starter, dir, address string) (*remote, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &remote{cmd: exec.Command(self, roleRegistry, dir, address)}
	r.cmd.Stderr = os.Stderr
	r.cmd.Env = append(os.Environ(), "GOGC=400")
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(r.cmd); err != nil {
		return nil, err
	}
	if r.Control, err = registry.Connect(stdout, r.stdin); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

func (r *remote) stop() error { return errors.Join(r.stdin.Close(), r.cmd.Wait()) }

// launcher starts contenders.
type launcher struct {
	home    string // where they may keep what they like
	timeout time.Duration
	start   starter
}

// errKilled ends a run that was killed on purpose.
var errKilled = errors.New("killed")

// launch runs a job in a process of its own. With a kill above 0 that is killed after so long. What goes
// wrong in the contender is part of the outcome, and no error.
func (l *launcher) launch(
	ctx context.Context, j contender.Job, kill time.Duration,
) (o contender.Outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	cmd, err := l.command(ctx, j)
	if err != nil {
		return o, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := l.start(cmd); err != nil {
		return o, err
	}
	if kill > 0 {
		defer time.AfterFunc(kill, func() { _ = cmd.Process.Kill() }).Stop()
	}
	err = cmd.Wait()
	switch {
	case err == nil:
		return o, json.Unmarshal(stdout.Bytes(), &o)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		o.Error = fmt.Sprintf("more than %v", l.timeout)
		return o, nil
	case ctx.Err() != nil:
		return o, ctx.Err()
	case kill > 0:
		return o, errKilled
	}
	o.Error = fmt.Sprintf("%v: %.500s", err, stderr.Bytes())
	return o, nil
}

func (l *launcher) command(ctx context.Context, j contender.Job) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	job, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, roleContender)
	cmd.Stdin = bytes.NewReader(job)
	cmd.Env = append(os.Environ(), "HOME="+l.home, "XDG_CACHE_HOME="+l.home, "XDG_STATE_HOME="+l.home)
	return cmd, nil
}
