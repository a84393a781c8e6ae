//go:build linux && storm

package storm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// outcome is how a traced puller ended.
type outcome struct {
	code   int  // of the exit
	killed bool // by a signal
	stderr string
	calls  []call
}

// call is a system call in a trace. A call of one thread may begin before and end after those of others.
type call struct {
	text       string // "fsync(7</path>) = 0"
	begin, end int    // lines of the trace
}

func (c call) injected() bool { return strings.Contains(c.text, "(INJECTED)") }

// trace runs a puller under strace, which sees only the calls that have to do with the place.
func (s *sandbox) trace(where place, options ...string) outcome {
	s.t.Helper()
	strace, err := exec.LookPath("strace")
	require.NoError(s.t, err, "these tests need strace: apt-get install strace")
	log := filepath.Join(s.t.TempDir(), "trace")
	before := append([]string{strace, "-f", "-qq", "-y", "-s", "0", "-o", log}, options...)
	for _, p := range where.paths(s) {
		before = append(before, "-P", p)
	}
	var stderr bytes.Buffer
	cmd := s.command(&stderr, before...)
	_ = cmd.Run()
	require.NotNil(s.t, cmd.ProcessState, "strace did not start")
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	content, err := os.ReadFile(log)
	require.NoError(s.t, err)
	return outcome{status.ExitStatus(), status.Signaled(), stderr.String(), parseTrace(string(content))}
}

var (
	traceLine = regexp.MustCompile(`^(\d+) +(.*)$`)
	resumed   = regexp.MustCompile(`^<\.\.\. \w+ resumed>(.*)$`)
)

const unfinished = " <unfinished ...>"

// parseTrace puts the halves of calls together that were traced in two lines.
func parseTrace(trace string) []call {
	var calls []call
	open := map[string]call{}
	for i, line := range strings.Split(trace, "\n") {
		m := traceLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		thread, text := m[1], m[2]
		if strings.HasPrefix(text, "---") { // a signal
			continue
		}
		if begun, ok := strings.CutSuffix(text, unfinished); ok {
			open[thread] = call{text: begun, begin: i}
			continue
		}
		c := call{text: text, begin: i, end: i}
		if rest := resumed.FindStringSubmatch(text); rest != nil {
			c.text, c.begin = open[thread].text+rest[1], open[thread].begin
		}
		calls = append(calls, c)
	}
	return calls
}

// place is where calls go wrong: paths as strace sees them, which for a call that has a name and the
// directory's descriptor are either.
type place struct {
	name  string
	paths func(*sandbox) []string
}

var (
	everything = place{"anywhere at all", func(*sandbox) []string { return nil }}
	anywhere   = place{"anywhere", func(s *sandbox) []string {
		return append(s.paths("", ".partial", ".journal"), s.dest)
	}}
	directory = place{"directory", func(s *sandbox) []string { return []string{s.dest} }}
	data      = place{"data", func(s *sandbox) []string { return s.paths(".partial") }}
	created   = place{"created", func(s *sandbox) []string {
		return s.names(s.blobs, ".partial", ".journal")
	}}
	large = place{"large", func(s *sandbox) []string {
		return append(s.paths(".partial")[:1], s.names(s.blobs[:1], ".partial", ".journal")...)
	}}
)

// names are names in the directory.
func (s *sandbox) names(blobs []blob, suffixes ...string) []string {
	var names []string
	for _, b := range blobs {
		for _, suffix := range suffixes {
			names = append(names, b.name()+suffix)
		}
	}
	return names
}

// paths are the paths of the names of all blobs, the large one's first.
func (s *sandbox) paths(suffixes ...string) []string {
	paths := s.names(s.blobs, suffixes...)
	for i, name := range paths {
		paths[i] = filepath.Join(s.dest, name)
	}
	return paths
}

func TestTraceOfThreadsIsPutTogether(t *testing.T) {
	calls := parseTrace("10 fsync(7</d/a>" + unfinished +
		"\n11 close(8</d/b>) = 0\n10 <... fsync resumed>) = -1 EIO (Input/output error) (INJECTED)\n")
	require.Len(t, calls, 2)
	require.Equal(t, call{"close(8</d/b>) = 0", 1, 1}, calls[0])
	require.Equal(t, call{"fsync(7</d/a>) = -1 EIO (Input/output error) (INJECTED)", 0, 2}, calls[1])
	require.True(t, calls[1].injected())
}

// fault is something that goes wrong in a system call.
type fault struct {
	calls  string // names, with commas between them
	effect string // "error=EIO" or "signal=SIGKILL"
}

// inject are the options of strace for the n-th of these calls or, for ever, for all from there on. Each
// thread counts for itself.
func (f fault) inject(n int, forEver bool) []string {
	when := fmt.Sprintf("%d", n)
	if forEver {
		when += "+"
	}
	inject := fmt.Sprintf("inject=%s:%s:when=%s", f.calls, f.effect, when)
	return []string{"-e", "trace=" + f.calls, "-e", inject}
}
