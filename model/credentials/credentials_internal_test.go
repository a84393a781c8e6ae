package credentials

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Key lets the tests from outside see under which name a log-in is kept.
var Key = keyOf

// Without a session, as by sudo or in a container, podman keeps log-ins below /run/containers.
func TestA4PodmanHasAFileForEachUser(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only there")
	}
	session := map[string]string{}
	getenv := func(name string) string { return session[name] }
	run := t.TempDir()
	matches := func() []string {
		var found []string
		for _, f := range podmanFiles(getenv, "/home/me", run) {
			if ok, _ := filepath.Match(run+"/*/auth.json", f); ok {
				found = append(found, f)
			}
		}
		return found
	}
	assert.Len(t, matches(), 1)
	session["XDG_RUNTIME_DIR"] = "/run/user/1000"
	assert.Empty(t, matches())
}
