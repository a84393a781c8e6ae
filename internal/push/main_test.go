package push_test

import (
	"testing"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// TestMain fails when a test has left a goroutine behind.
func TestMain(m *testing.M) { registrytest.Main(m) }
