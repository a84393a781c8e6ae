package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// result is what a run left behind.
type result struct {
	code           int
	stdout, stderr string
}

// lockedBuffer may be written by a log and read by a test at once.
type lockedBuffer struct {
	mu     sync.Mutex // guards the fields that follow
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// noEnv is an environment without variables.
func noEnv(string) string { return "" }

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func runIn(ctx context.Context, getenv func(string) string, args ...string) result {
	var stdout, stderr lockedBuffer
	a := &app{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: getenv}
	code := a.run(ctx, args)
	return result{code, stdout.String(), stderr.String()}
}

func runWith(t *testing.T, args ...string) result {
	t.Helper()
	return runIn(t.Context(), noEnv, args...)
}

func TestUsageErrorsExitWith2(t *testing.T) {
	for name, args := range map[string][]string{
		"no command":                 {},
		"an unknown command":         {"fetch"},
		"help of an unknown one":     {"help", "fetch"},
		"an unknown shell":           {"completion", "nope"},
		"operands for a shell":       {"completion", "bash", "a"},
		"an unknown flag":            {"pull", "--fast", "a", "b"},
		"too few operands":           {"push", "a"},
		"too many operands":          {"pull", "a", "b", "c"},
		"operands for demo":          {"demo", "a"},
		"operands for man":           {"man", "a", "b"},
		"a malformed reference":      {"pull", "localhost:5000/..", "dir"},
		"a malformed target":         {"push", "dir", "ftp://localhost/a"},
		"a malformed size":           {"demo", "--size", "many"},
		"a size below the least":     {"demo", "--size", "1"},
		"a negative count":           {"demo", "--tensors", "-1"},
		"a negative concurrency":     {"pull", "--concurrency", "-1", "a", "b"},
		"negative bodies":            {"pull", "--body-concurrency", "-1", "a", "b"},
		"a negative bound of pull":   {"pull", "--max-files", "-1", "a", "b"},
		"a negative bound of push":   {"push", "--max-manifests", "-1", ".", "a"},
		"a negative bound of copy":   {"copy", "--max-manifests", "-1", "a", "b"},
		"a negative bound of verify": {"verify", "--max-depth", "-1", "."},
		"a negative bound of prune":  {"prune", "--max-manifests", "-1", "."},
		"a negative time":            {"pull", "--timeout", "-1s", "a", "b"},
		"a malformed time":           {"pull", "--timeout", "soon", "a", "b"},
		"a name without password":    {"pull", "--username", "me", "a", "b"},
		"a malformed registry URL":   {"demo", "--registry", "ftp://localhost"},
		"a registry without a dot":   {"demo", "--registry", "myhost"}, // it would be a namespace elsewhere
		"a mirror that is no URL":    {"pull", "--mirror", "mirror.example", "a", "b"},
		"a mirror without a host":    {"pull", "--mirror", "https://", "a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			r := runWith(t, args...)
			assert.Equal(t, exitUsage, r.code)
			assert.Empty(t, r.stdout)
			assert.Regexp(t, `^transfer: [^\n]+ \(see: transfer help\)\n$`, r.stderr)
		})
	}
}

func TestHelpGoesToStdoutAndFitsAScreen(t *testing.T) {
	commands := [][]string{
		{"help"}, {"-h"}, {"--help"}, {"demo", "-help"}, {"help", "flags"}, {"help", "references"},
	}
	for _, c := range newRoot(new(app)).Commands() {
		commands = append(commands, []string{c.Name(), "--help"}, []string{"help", c.Name()})
	}
	for _, args := range commands {
		r := runWith(t, args...)
		assert.Equal(t, exitOK, r.code, "%v", args)
		assert.Empty(t, r.stderr, "%v", args)
		assert.NotEmpty(t, r.stdout, "%v", args)
		if slices.Contains(args, "completion") {
			continue // written by the library
		}
		lines := strings.Split(r.stdout, "\n")
		assert.LessOrEqual(t, len(lines), 40, "%v", args)
		for _, line := range lines {
			assert.LessOrEqual(t, len(line), 80, "%v: %s", args, line)
		}
	}
}

func TestHelpNamesEachSharedFlag(t *testing.T) {
	text := runWith(t, "help", "flags").stdout
	flags := newRoot(new(app)).PersistentFlags()
	flags.VisitAll(func(f *pflag.Flag) { assert.Contains(t, text, "--"+f.Name+" ") })
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	r := runWith(
		t, "--quiet", "push", "--limit-rate=2K", "/nonexistent", "--concurrency", "3", "localhost:1/a",
		"--json=false",
	)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "/nonexistent")
}

func TestAResultThatCannotBeWrittenIsAFailure(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"help"}, {"version", "--json"}} {
		var stderr bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: brokenPipe{}, stderr: &stderr, getenv: noEnv}
		assert.Equal(t, exitFailed, a.run(t.Context(), args))
		assert.Equal(t, "transfer: writing the result: broken pipe\n", stderr.String())
	}
}

func TestAFullStdoutIsNotTakenForAFullDirectory(t *testing.T) {
	var stderr bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: fullDisk{}, stderr: &stderr, getenv: noEnv}
	assert.Equal(t, exitFailed, a.run(t.Context(), []string{"help"}))
	assert.Contains(t, stderr.String(), "hint: stdout goes to a disk that is full")
	assert.NotContains(t, stderr.String(), "fetched")
}

// fullDisk has no space left.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestAnUnknownCommandIsAnsweredWithAllThereAre(t *testing.T) {
	r := runWith(t, "nosuch")
	for _, c := range newRoot(new(app)).Commands() {
		if c.Runnable() || c.HasSubCommands() {
			assert.Regexp(t, `[ ,]`+c.Name()+`[ ,]`, r.stderr)
		}
	}
	assert.NotContains(t, r.stderr, "__complete")
}

// brokenPipe is where nobody reads.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestASlipIsAnsweredWithACommand(t *testing.T) {
	const unknown = "transfer: unknown shorthand flag: 'x' in -x (see: transfer help)\n"
	assert.Equal(t, unknown, runWith(t, "-x").stderr)
	r := runWith(t, "pul", "a", "b")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.stderr, `unknown command "pul"; did you mean pull?`)
}

func TestTheVersionIsPrinted(t *testing.T) {
	r := runWith(t, "version")
	assert.Equal(t, exitOK, r.code)
	assert.Regexp(t, `^transfer \S+`, r.stdout)
	assert.Regexp(t, `^{"event":"version","version":"[^"]+".*}\n$`, runWith(t, "version", "--json").stdout)
}

func TestATimeoutEndsTheCommand(t *testing.T) {
	made, _ := makeModel(t, demoModel{tensors: 1, seed: 1})
	silent := httptest.NewServer(
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
	)
	defer silent.Close()
	r := runWith(t, "push", "--timeout", "50ms", made, silent.URL+"/me/model")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "transfer: --timeout is over; run the same command again to continue\n")
}

func TestErrorsAreOneLineWithoutControlCharacters(t *testing.T) {
	err := fmt.Errorf("first\nsecond \x1b[31mred\u202e: %w", errors.New("naïve"))
	assert.Equal(t, "first second  [31mred : naïve", oneLine(err))
}

func TestAFailureExitsWith1(t *testing.T) {
	r := runWith(t, "push", t.TempDir(), "localhost:1/a/b")
	assert.Equal(t, exitFailed, r.code)
	assert.Regexp(t, `^transfer: [^\n]+manifest\.json[^\n]+\n$`, r.stderr)
}

func TestAnInterruptExitsWith130AndLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := runIn(ctx, noEnv, "demo", "--size", "1M", "--tensors", "2")
	assert.Equal(t, exitInterrupted, r.code)
	assert.Equal(t, "transfer: interrupted; the files of the demo were removed\n", r.stderr)
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestAnInterruptedDemoThatKeepsItsFilesCanContinue(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := runIn(ctx, noEnv, "demo", "--size", "1M", "--tensors", "2", "--dir", t.TempDir())
	assert.Equal(t, exitInterrupted, r.code)
	assert.Equal(t, "transfer: interrupted; run the same command again to continue\n", r.stderr)
}

// Only what goes on where it was is said to.
func TestACommandThatStartsAnewIsNotToContinue(t *testing.T) {
	silent := httptest.NewServer(
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
	)
	defer silent.Close()
	ref, dir := silent.URL+"/me/model:v1", t.TempDir()
	for _, args := range [][]string{
		{"tags", silent.URL + "/me/model"}, {"inspect", ref}, {"tag", ref, "v2"}, {"repos", silent.URL},
		{"pull", "--dry-run", ref, dir}, {"copy", "--dry-run", ref, ref + "2"}, {"delete", ref},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := runIn(ctx, noEnv, args...)
		assert.Equal(t, result{exitInterrupted, "", "transfer: interrupted\n"}, r, "%v", args)
		r = runWith(t, append(args, "--timeout", "20ms")...)
		assert.Equal(t, result{exitFailed, "", "transfer: --timeout is over\n"}, r, "%v", args)
	}
	for _, args := range [][]string{{"pull", ref, dir}, {"copy", ref, ref + "2"}, {"attach", ref, dir}} {
		name, flags, _ := newRoot(new(app)).Find(args)
		require.NoError(t, name.ParseFlags(flags))
		assert.True(t, continues(name), "%v", args)
	}
	for _, args := range [][]string{{"tags", "localhost:1/a"}, {"pull", "localhost:1/a", dir}} {
		r := runWith(t, append(args, "--retry-timeout", "1ms")...)
		assert.Equal(t, args[0] == "pull", strings.Contains(r.stderr, " to continue"), r.stderr)
	}
	r := runWith(t, "demo", "--registry", silent.URL, "--size", "0", "--tensors", "1", "--timeout", "50ms")
	assert.Equal(t, "transfer: --timeout is over; the files of the demo were removed\n", r.stderr)
}

func TestVerboseLogsAndQuietDoesNot(t *testing.T) {
	var stderr lockedBuffer
	a := &app{stderr: &stderr}
	require.Nil(t, a.logger())
	a.verbose = true
	a.logger().Debug("hello")
	assert.True(t, strings.Contains(stderr.String(), "msg=hello"))
}

func TestTheDisplayFitsTheOutput(t *testing.T) {
	var out bytes.Buffer
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer file.Close()
	assert.False(t, isTerminal(&out))
	assert.False(t, isTerminal(file))
	a := &app{stderr: &out, getenv: noEnv}
	newMeter(a, "pull", nil).Update(0, 1)
	assert.Contains(t, out.String(), "pull   0 %")
	out.Reset()
	a.quiet = true
	newMeter(a, "pull", nil).Update(0, 1)
	assert.Empty(t, out.String())
	a.quiet, a.json, a.stdout = false, true, &out
	newMeter(a, "pull", nil).Update(0, 1)
	assert.Equal(t, `{"event":"progress","phase":"pull","completed":0,"total":1}`+"\n", out.String())
}

func TestAnOutcomeSaysWhatMoved(t *testing.T) {
	o := outcome{blobs: 3, total: 5000, there: 1000, moved: 4000, took: 2 * time.Second}
	assert.Equal(t, "3 blobs, 5.0 kB (1.0 kB there already) in 2.0 s, 2.0 kB/s", o.String())
	o.moved = 0
	assert.Equal(t, "3 blobs, 5.0 kB, all there already", o.String())
	o = outcome{blobs: 1, total: 5, moved: 5, took: time.Second}
	assert.Equal(t, "1 blob, 5 B in 1.0 s, 5 B/s", o.String())
}
