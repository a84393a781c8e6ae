package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

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
	code := run(ctx, args, &stdout, &stderr, getenv)
	return result{code, stdout.String(), stderr.String()}
}

func runWith(t *testing.T, args ...string) result {
	t.Helper()
	return runIn(t.Context(), noEnv, args...)
}

func TestUsageErrorsExitWith2(t *testing.T) {
	for name, args := range map[string][]string{
		"no command":               {},
		"an unknown command":       {"fetch"},
		"an unknown flag":          {"pull", "--fast", "a", "b"},
		"too few operands":         {"pull", "a"},
		"too many operands":        {"push", "a", "b", "c"},
		"operands for demo":        {"demo", "a"},
		"a malformed reference":    {"pull", "localhost:5000/..", "dir"},
		"a malformed target":       {"push", "dir", "ftp://localhost/a"},
		"a malformed size":         {"demo", "--size", "many"},
		"a size below the least":   {"demo", "--size", "1"},
		"a negative count":         {"demo", "--tensors", "-1"},
		"a negative concurrency":   {"pull", "--concurrency", "-1", "a", "b"},
		"a name without password":  {"pull", "--username", "me", "a", "b"},
		"a malformed registry URL": {"demo", "--registry", "ftp://localhost"},
		"a registry without a dot": {"demo", "--registry", "myhost"}, // it would be a namespace elsewhere
		"a mirror that is no URL":  {"pull", "--mirror", "mirror.example", "a", "b"},
		"a mirror without a host":  {"pull", "--mirror", "https://", "a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			r := runWith(t, args...)
			assert.Equal(t, exitUsage, r.code)
			assert.Empty(t, r.stdout)
			assert.Regexp(t, `^transfer: [^\n]+ \(see: transfer help\)\n$`, r.stderr)
		})
	}
}

func TestHelpGoesToStdout(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"-h"}, {"--help"}, {"pull", "-h"}, {"push", "--help"}, {"demo", "-help"}} {
		r := runWith(t, args...)
		assert.Equal(t, result{exitOK, usageText, ""}, r, "%v", args)
	}
}

func TestUsageNamesEachSharedFlag(t *testing.T) {
	fs, _ := newFlags("any")
	fs.VisitAll(func(f *flag.Flag) { assert.Contains(t, usageText, "--"+f.Name+" ") })
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	a := &app{getenv: noEnv}
	fs, s := newFlags("any")
	operands, err := a.parse(fs, s, []string{"--quiet", "one", "--limit-rate=2K", "two", "--concurrency", "3"}, "A", "B")
	require.NoError(t, err)
	assert.Equal(t, []string{"one", "two"}, operands)
	assert.Equal(t, settings{concurrency: 3, limitRate: 2000, quiet: true}, *s)
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

func TestVerboseLogsAndQuietDoesNot(t *testing.T) {
	var stderr lockedBuffer
	a := &app{stderr: &stderr}
	require.Nil(t, a.logger(&settings{}))
	a.logger(&settings{verbose: true}).Debug("hello")
	assert.True(t, strings.Contains(stderr.String(), "msg=hello"))
}
