// Package conformance runs the OCI distribution conformance suite against the
// registry of registrytest.
package conformance

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

const suitePackage = "github.com/opencontainers/distribution-spec/conformance"

func TestConformance(t *testing.T) {
	suite := build(t, suitePackage, ".")
	for name, opts := range map[string]registrytest.Options{
		"default": {},
		"strict": {
			SingleShot: true, CheckManifest: true,
			Sessions: registrytest.Sessions{StrictState: true, RelativeLocation: true, MinChunk: 16},
		},
		"no mount": {NoMount: true},
	} {
		t.Run(name, func(t *testing.T) {
			reg := registrytest.New(opts)
			out, err := run(t, suite, registrytest.Serve(t, reg, registrytest.H1).URL)
			assert.NoError(t, err, "%s", out)
			assert.NotZero(t, reg.Count("PATCH", "/blobs/uploads/"))
			assert.NotZero(t, reg.Count("PUT", "/manifests/"))
			assert.NotZero(t, reg.Count("GET", "/blobs/sha256:"))
			assert.Empty(t, reg.Sessions(), "every upload was finished")
		})
	}
}

// build builds a command as a module has it that is, or begins, at a directory.
func build(t *testing.T, command, dir string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// run runs the suite against the registry at a URL, with every test that is optional.
func run(t *testing.T, suite, url string) ([]byte, error) {
	t.Helper()
	results := t.TempDir()
	cmd := exec.CommandContext(t.Context(), suite)
	cmd.Dir = results
	cmd.Env = append(os.Environ(),
		"OCI_REGISTRY="+strings.TrimPrefix(url, "http://"),
		"OCI_TLS=disabled",
		"OCI_RESULTS_DIR="+results,
		"OCI_VERSION=1.1",
		"OCI_API_PULL=true",
		"OCI_API_PUSH=true",
		"OCI_API_BLOBS_DIGEST_HEADER=true",
		"OCI_API_MANIFESTS_DIGEST_HEADER=true",
		"OCI_API_BLOBS_UPLOAD_CANCEL=true",
	)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}
