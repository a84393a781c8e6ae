package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func withAuthorization(e exchange) bool { return e.authorization != "" }

// A registry may lock an account after some wrong passwords, so each command sends one once.
func TestCLIAWrongPasswordIsSentOnce(t *testing.T) {
	made, open := smallFiles(t, 1), newDistribution(t).serve(t)
	newCLI(t).must(t, "push", made, open.url+"/me/model:v1")
	ts := newTokenServer(t)
	ts.user, ts.password = user, password
	for name, asked := range map[string]struct {
		registry, judge *server
	}{
		"passwords": {registry: newDistribution(t).withPasswords(t).serve(t)},
		"tokens":    {registry: newDistribution(t).withToken(ts).serve(t), judge: ts.server},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := asked.registry, newCLI(t)
			judge := asked.judge
			if judge == nil {
				judge = s
			}
			t.Setenv("TRANSFER_PASSWORD", "wrong")
			ref := s.url + "/me/model:v1"
			layout := filepath.Join(t.TempDir(), "layout")
			require.NoError(t, os.MkdirAll(layout, 0o755))
			for _, args := range [][]string{
				{"login", s.url}, {"push", made, ref}, {"pull", ref, layout}, {"inspect", ref}, {"tags", ref},
				{"copy", open.url + "/me/model:v1", s.url + "/you/model:v1"},
			} {
				judge.forget()
				_, stderr, code := c.run(t.Context(), "", append(args, "--username", user)...)
				assert.Equal(t, 1, code)
				assert.Contains(t, stderr, "hint: check the name and the password of --username "+user)
				assert.NotContains(t, stderr, "check the token")
				assert.Len(t, judge.seen(withAuthorization), 1, "%v", args)
				assert.Empty(t, judge.seen(withAuthorization, status(http.StatusOK)))
			}
		})
	}
}
