package transfer_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestU13Mount(t *testing.T) {
	type test struct {
		noMount, elsewhere bool
		script             string
		posts, puts        int
	}
	cases := map[string]test{
		"done":                  {elsewhere: true, posts: 1},
		"U13 refused with 202":  {elsewhere: true, noMount: true, posts: 1, puts: 1},
		"U13 not there":         {posts: 1, puts: 1},
		"refused with 404":      {elsewhere: true, script: "404", posts: 2, puts: 1},
		"refused with 405":      {elsewhere: true, script: "405", posts: 2, puts: 1},
		"refused with 403":      {elsewhere: true, script: "403", posts: 2, puts: 1},
		"503, then done":        {elsewhere: true, script: "503", posts: 2},
		"done, the answer lost": {elsewhere: true, script: "swallow", posts: 1},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		w := newWorld(t, mode, registrytest.Options{NoMount: c.noMount})
		b := w.local(3 << 20)
		b.From = "library/other"
		if c.elsewhere {
			w.reg.Put(b.From, w.data(b))
		}
		if c.script != "" {
			w.reg.Fault("POST", "mount", c.script)
		}
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.True(t, w.reg.Has(repository, digest.Digest(b.Digest)))
		assert.Equal(t, c.posts, w.reg.Count("POST", ""))
		assert.Equal(t, c.puts, w.reg.Count("PUT", ""))
		assert.Equal(t, int64(c.puts)*b.Size, w.reg.BytesReceived())
		assert.Equal(t, 1+strings.Count(c.script, "503"),
			w.reg.Count("POST", "from=library%2Fother&mount="+url.QueryEscape(b.Digest)))
		assert.Zero(t, w.reg.Sessions())
	})
}

// A token may be good for the target alone, while a mount needs one for both repositories.
func TestU13MountThatTheTokenDoesNotAllow(t *testing.T) {
	type give func(context.Context, int) (string, error)
	cases := map[string]give{
		"no GetToken": nil,
		"not granted": func(context.Context, int) (string, error) { return "token", nil },
		"denied":      func(context.Context, int) (string, error) { return "", errors.New("denied") },
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, give give) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		b.From = "library/other"
		w.reg.Put(b.From, w.data(b))
		w.reg.Fault("POST", "mount", "**401")
		opts := w.uploadOptions(b)
		if give != nil {
			opts.GetToken = (&issuer{give: give}).getToken
		}
		require.NoError(t, w.upload(opts))
		assert.Equal(t, b.Size, w.reg.BytesReceived())
	})
}

// Where nothing is mounted, what the repository has already is not sent.
func TestU13MountOfWhatIsThere(t *testing.T) {
	eachInBubbles(t, named("ok", "**404"), func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{NoMount: true})
		w.reg.Fault("POST", "mount", script)
		b := w.local(3 << 20)
		b.From = "library/other"
		w.reg.Put(repository, w.data(b))
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Zero(t, w.reg.BytesReceived())
		assert.Zero(t, w.reg.Sessions())
	})
}
