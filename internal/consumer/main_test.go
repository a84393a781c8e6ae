// Package consumer_test has a program of the kind that package transfer is made for: it keeps models as
// manifests and blobs, pulls and pushes them, signs for its tokens, and streams its progress to whoever is
// connected. Each test has it do what such programs do, against registries that do what theirs do.
package consumer_test

import (
	"bytes"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

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
	var log leaks
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	registrytest.Main(m, func() error {
		if log.found.Load() {
			return errors.New("a token was logged")
		}
		return nil
	})
}
