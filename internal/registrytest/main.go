package registrytest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// leakTime is how long goroutines have to end after the last test.
const leakTime = 5 * time.Second

// Main runs the tests of a package for its TestMain, and exits. Uploads are remembered in a directory of
// their own meanwhile, and temporary files are in memory where TMPDIR does not say otherwise. It fails when a
// test has left a goroutine behind, or when a check that follows the tests fails.
func Main(m *testing.M, checks ...func() error) {
	if dir := memory(); dir != "" && os.Getenv("TMPDIR") == "" {
		os.Setenv("TMPDIR", dir)
	}
	cache, err := os.MkdirTemp("", "transfer-test")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		os.Setenv(name, cache)
	}
	code := m.Run()
	os.RemoveAll(cache)
	for _, check := range append([]func() error{checkGoroutines}, checks...) {
		if err := check(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// checkGoroutines fails when goroutines of a call, or of net/http, do not end.
func checkGoroutines() error {
	for end := time.Now().Add(leakTime); ; time.Sleep(10 * time.Millisecond) {
		var left []string
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
		for stack := range strings.SplitSeq(b.String(), "\n\n") {
			this := strings.Contains(stack, "registrytest.checkGoroutines")
			if strings.Contains(stack, "modeltransfer") && !this || strings.Contains(stack, "net/http") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("goroutines left behind:\n" + strings.Join(left, "\n\n"))
		}
	}
}

// NoDescriptorLeft is a check for [Main]: it fails when more files are open than now.
func NoDescriptorLeft() func() error {
	before := Descriptors()
	return func() error {
		if after := Descriptors(); after > before {
			return fmt.Errorf("descriptors left behind: %d before, %d after", before, after)
		}
		return nil
	}
}

// Descriptors counts the open files of the process; where that cannot be known it is 0.
func Descriptors() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode") && !strings.Contains(target, "/proc/") {
			n++
		}
	}
	return n
}

// InBubbles runs a test in HTTP/1.1 and in HTTP/2, with faked time.
func InBubbles(t *testing.T, test func(t *testing.T, mode Mode)) {
	t.Helper()
	for _, mode := range []Mode{H1, H2} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, mode) })
		})
	}
}

// Each runs a test for each named case, in HTTP/1.1 and in HTTP/2, with faked time.
func Each[C any](t *testing.T, cases map[string]C, test func(t *testing.T, mode Mode, c C)) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			InBubbles(t, func(t *testing.T, mode Mode) { test(t, mode, c) })
		})
	}
}

// Named returns cases that are named as they print.
func Named[C any](cases ...C) map[string]C {
	all := make(map[string]C, len(cases))
	for _, c := range cases {
		all[fmt.Sprint(c)] = c
	}
	return all
}
