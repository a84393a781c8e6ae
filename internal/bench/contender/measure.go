package contender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"
)

// profileRate is in samples per second. Most kernels deliver no more than 250.
const profileRate = 250

// Outcome is what a job took, from the first call to its return.
type Outcome struct {
	Wall, CPU time.Duration
	RSS       int64  // peak memory in bytes
	Mallocs   uint64 // allocations
	Cannot    string // why the contender cannot do the job
	Error     string // why it failed
}

// Main is a process that reads a Job, does it, and writes its Outcome. An error is one of the
// process, not of the contender.
func Main(ctx context.Context, in io.Reader, out io.Writer) error {
	var j Job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return err
	}
	o, err := j.measure(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(o)
}

// measure does the job.
func (j *Job) measure(ctx context.Context) (o Outcome, err error) {
	move, err := j.mover()
	if err != nil {
		o.fail(err)
		return o, nil
	}
	stop, err := j.profile()
	if err != nil {
		return o, err
	}
	debug.FreeOSMemory()
	resetPeak()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used := cpuTime()
	start := time.Now()
	failure := move(ctx, j)
	o.Wall = time.Since(start)
	o.CPU = cpuTime() - used
	o.RSS = peak()
	runtime.ReadMemStats(&after)
	o.Mallocs = after.Mallocs - before.Mallocs
	o.fail(failure)
	return o, stop()
}

func (o *Outcome) fail(err error) {
	switch {
	case err == nil:
	case errors.Is(err, errCannot):
		o.Cannot = err.Error()
	default:
		o.Error = fmt.Sprintf("%.300s", err)
	}
}

// profile begins the CPU profile that may be asked for.
func (j *Job) profile() (stop func() error, err error) {
	if j.CPUProfile == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(filepath.Dir(j.CPUProfile), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(j.CPUProfile)
	if err != nil {
		return nil, err
	}
	runtime.SetCPUProfileRate(profileRate)
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
