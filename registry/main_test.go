package registry_test

import (
	"testing"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestMain(m *testing.M) { registrytest.Main(m) }
