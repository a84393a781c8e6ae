package transfer_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

const (
	repository = "library/model"

	// latency passes before each answer of a registry, unless a test wants more. Faked time stands still
	// until all goroutines wait, so none can make several requests while another is held up by the
	// machine.
	latency = time.Millisecond

	// noBackoff is more time than some requests take, and less than the shortest backoff.
	noBackoff = 50 * time.Millisecond
)

// TestMain fails when a test has left a goroutine or a descriptor behind.
func TestMain(m *testing.M) {
	before := descriptors()
	registrytest.Main(m, func() error {
		if after := descriptors(); after > before {
			return fmt.Errorf("descriptors left behind: %d before, %d after", before, after)
		}
		return nil
	})
}

// descriptors counts the open files of the process; where that cannot be known it is 0.
func descriptors() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode") && !strings.Contains(target, "/proc/") {
			n++
		}
	}
	return n
}

// inBubbles runs a test for each protocol at the same time, with faked time.
func inBubbles(t *testing.T, test func(t *testing.T, mode registrytest.Mode)) {
	t.Helper()
	for _, mode := range []registrytest.Mode{registrytest.H1, registrytest.H2} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, mode) })
		})
	}
}

// eachInBubbles runs a test for each case and protocol, with faked time. Cases have names.
func eachInBubbles[C any](
	t *testing.T, cases map[string]C, test func(t *testing.T, mode registrytest.Mode, name string, c C),
) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) { test(t, mode, name, c) })
		})
	}
}

// named returns cases that are their own names.
func named(cases ...string) map[string]string {
	all := make(map[string]string, len(cases))
	for _, c := range cases {
		all[c] = c
	}
	return all
}
