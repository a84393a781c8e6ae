package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The programs of docs/models.md are examples of module model. Here they run against the reference registry.
func TestTheProgramsOfThePageRunAgainstDistribution(t *testing.T) {
	program := filepath.Join(t.TempDir(), "model.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "model")
	build.Env = append(os.Environ(), "GOWORK=off")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	ts := newTokenServer(t)
	ts.user, ts.password = user, password
	for name, d := range map[string]*distribution{
		"anonymous": newDistribution(t),
		"htpasswd":  newDistribution(t).withPasswords(t),
		"token":     newDistribution(t).withToken(ts),
	} {
		t.Run(name, func(t *testing.T) {
			host := strings.TrimPrefix(d.serve(t).url, "http://")
			run := exec.CommandContext(t.Context(), program, "-test.run", "^Example", "-test.v")
			run.Dir = build.Dir
			run.Env = append(os.Environ(), "EXAMPLE_REGISTRY="+host, "DOCKER_CONFIG="+dockerConfig(t, host))
			out, err := run.CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Equal(t, 6, strings.Count(string(out), "--- PASS: Example"), "%s", out)
		})
	}
}

// dockerConfig makes a directory of docker's with a log-in to a registry.
func dockerConfig(t *testing.T, host string) string {
	t.Helper()
	dir, auth := t.TempDir(), base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	config := fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, host, auth)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
	return dir
}
