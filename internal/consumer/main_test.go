// Package consumer_test has a program of the kind that package transfer is made for: it keeps models as
// manifests and blobs, pulls and pushes them, signs for its tokens, and streams its progress to whoever is
// connected. Each test has it do what such programs do, against registries that do what theirs do.
package consumer_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// leaks remembers whether a token was logged.
type leaks struct{ found atomic.Bool }

func (l *leaks) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(tokenPrefix)) {
		l.found.Store(true)
	}
	return len(line), nil
}

// TestMain fails when a test has left a goroutine behind, or a token in the log of the program.
func TestMain(m *testing.M) {
	cache, err := os.MkdirTemp("", "consumer-test")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} { // upload sessions are remembered there
		os.Setenv(name, cache)
	}
	var log leaks
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	code := m.Run()
	os.RemoveAll(cache)
	if log.found.Load() {
		fmt.Fprintln(os.Stderr, "a token was logged")
		code = 1
	}
	if left := goroutinesAfter(5 * time.Second); left != "" && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// goroutinesAfter returns the stacks of what still runs of a call after that time at most.
func goroutinesAfter(patience time.Duration) string {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var left []string
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
		for stack := range strings.SplitSeq(b.String(), "\n\n") {
			ours := strings.Contains(stack, "/transfer.") || strings.Contains(stack, "net/http")
			if ours && !strings.Contains(stack, "goroutinesAfter") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return strings.Join(left, "\n\n")
		}
	}
}

// inBubbles runs a test over both protocols, with faked time.
func inBubbles(t *testing.T, test func(t *testing.T, mode registrytest.Mode)) {
	t.Helper()
	for _, mode := range []registrytest.Mode{registrytest.H1, registrytest.H2} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, mode) })
		})
	}
}
