package registry_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// TestMain fails when a test has left a goroutine behind.
func TestMain(m *testing.M) {
	cache, err := os.MkdirTemp("", "registry-test")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} { // uploads are remembered there
		os.Setenv(name, cache)
	}
	code := m.Run()
	os.RemoveAll(cache)
	if left := leaked(5 * time.Second); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks of what still runs after the time.
func leaked(wait time.Duration) string {
	for end := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		var left []string
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
		for stack := range strings.SplitSeq(b.String(), "\n\n") {
			if strings.Contains(stack, "net/http") ||
				strings.Contains(stack, "modeltransfer") && !strings.Contains(stack, "registry_test.leaked") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return strings.Join(left, "\n\n")
		}
	}
}
