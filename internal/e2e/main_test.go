package e2e

import (
	"io"
	"os"
	"testing"

	"github.com/rs/zerolog"
	"github.com/sirupsen/logrus"
)

// userAgent tells the requests of the library from those of a registry that
// fetches or stores on its own account.
const userAgent = "transfer-e2e"

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)             // distribution logs each request
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics of toxiproxy have a logger of their own
	os.Setenv("OTEL_TRACES_EXPORTER", "none")
	os.Unsetenv("REGISTRY_AUTH_FILE")
	os.Exit(run(m))
}

// run keeps what the library remembers of open uploads away from the user's cache.
func run(m *testing.M) int {
	cache, err := os.MkdirTemp("", "transfer-e2e-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(cache)
	os.Setenv("XDG_CACHE_HOME", cache)
	return m.Run()
}
