package unpack_test

import (
	"testing"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// TestMain fails when a call has left a goroutine or a descriptor behind.
func TestMain(m *testing.M) { registrytest.Main(m, registrytest.NoDescriptorLeft()) }
