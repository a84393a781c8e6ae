package registry_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestA2TokenForPullingOnly(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		m := w.put("latest", "weights")
		repo := w.open(person)
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		require.NoError(t, repo.PutManifest(t.Context(), "other", m))
		list := w.tokens.asked()
		require.Len(t, list, 2)
		assert.Equal(t, []string{pushScope}, list[1].scopes)

		_, err = repo.Manifest(t.Context(), "other")
		require.NoError(t, err)
		require.NoError(t, repo.PutManifest(t.Context(), "third", m))
		assert.Len(t, w.tokens.asked(), 2, "the token that may push may pull")
	})
}

func TestA2OneTokenWhenOpenedForPushing(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		m := w.put("latest", "weights")
		repo := w.open(person, push)
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		require.NoError(t, repo.PutManifest(t.Context(), "other", m))
		assert.NotEmpty(t, repo.UploadOptions().Token)
		require.Len(t, w.tokens.asked(), 1)
		assert.Equal(t, []string{pushScope}, w.tokens.asked()[0].scopes)
	})
}

// There are registries that answer 403 to a token for pulling.
func TestA2TokenForPullingOnlyIsForbidden(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		m := w.put("latest", "weights")
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				header := r.Header.Get("Authorization")
				mayPush := w.tokens.allows(header, repository, "push")
				forbidden := r.Method == "PUT" && w.tokens.knows(header) && !mayPush
				if forbidden {
					rw.WriteHeader(http.StatusForbidden)
				}
				return forbidden
			}
		})
		repo := w.open(person)
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		require.NoError(t, repo.PutManifest(t.Context(), "other", m))
		assert.Len(t, w.tokens.asked(), 2)
	})
}

// A registry that has no right for us to push is asked for it once.
func TestA2PushIsForbidden(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.tokens.configure(func(s *tokenServer) { s.narrow = true })
		m := w.put("latest", "weights")
		begun := time.Now()
		err := w.open(person).PutManifest(t.Context(), "other", m)
		requireStatus(t, err, 401)
		assert.Less(t, time.Since(begun), noBackoff)
		assert.LessOrEqual(t, len(w.tokens.asked()), 2)
	})
}

func TestA3Challenges(t *testing.T) {
	bearer := `Bearer realm="%s",service="registry.test"`
	for name, c := range map[string]struct {
		challenge string
		want      string
	}{
		"without a scope":  {bearer, pullScope},
		"Basic first":      {`Basic realm="x", ` + bearer + `,scope="` + pullScope + `"`, pullScope},
		"Bearer first":     {bearer + `, Basic realm="x"`, pullScope},
		"malformed scopes": {bearer + `,scope="x : :y z: "`, pullScope},
		"other actions": {
			bearer + `,scope="repository:` + repository + `:delete"`,
			"repository:" + repository + ":delete,pull",
		},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				w.put("latest", "weights")
				w.reg.Configure(func(o *registrytest.Options) {
					o.Challenge = fmt.Sprintf(c.challenge, w.realm)
				})
				_, err := w.open(person).Manifest(t.Context(), "latest")
				require.NoError(t, err)
				want := []asked{{"GET", username + ":" + password, service, []string{c.want}}}
				assert.Equal(t, want, w.tokens.asked())
			})
		})
	}
}

// A registry may call the repository by a name of its own in scopes.
func TestA3ScopeOfAnotherName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1)
		_, err := w.open(push).GetToken(t.Context(), transfer.AuthChallenge{
			Realm: w.realm, Service: service, Scope: "repository:tenant-7/library/model:pull",
		})
		require.NoError(t, err)
		assert.Equal(t, []string{"repository:tenant-7/library/model:pull,push"}, w.tokens.asked()[0].scopes)
	})
}

// Once the repository was asked for, a challenge with another is that of a mount.
func TestScopeOfMountAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1)
		repo := w.open(push)
		for _, scope := range []string{pullScope, "repository:library/base:pull"} {
			challenge := transfer.AuthChallenge{Realm: w.realm, Service: service, Scope: scope}
			_, err := repo.GetToken(t.Context(), challenge)
			require.NoError(t, err)
		}
		assert.Equal(t, []string{"repository:library/base:pull", pushScope}, w.tokens.asked()[1].scopes)
	})
}

func TestScopesOfMounts(t *testing.T) {
	mount := func(w *world, from string) transfer.AuthChallenge {
		scope := pushScope + " repository:" + from + ":pull"
		return transfer.AuthChallenge{Realm: w.realm, Service: service, Scope: scope}
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		repo := w.open(person)
		for _, from := range []string{"library/base", "library/other"} {
			_, err := repo.GetToken(t.Context(), mount(w, from))
			require.NoError(t, err)
		}
		assert.Equal(t, []string{"repository:library/base:pull", pushScope, "repository:library/other:pull"},
			w.tokens.asked()[1].scopes, "one token serves all mounts of a call")
	})
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.tokens.configure(func(s *tokenServer) { s.deny = "secret/base" })
		repo := w.open(person)
		for range 2 {
			_, err := repo.GetToken(t.Context(), mount(w, "secret/base"))
			require.NoError(t, err, "what cannot be mounted is sent")
		}
		list := w.tokens.asked()
		require.Len(t, list, 3, "the refusal is remembered")
		assert.Equal(t, []string{pushScope}, list[1].scopes)
		assert.Equal(t, []string{pushScope}, list[2].scopes)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1)
		var many strings.Builder
		for i := range 100 {
			fmt.Fprintf(&many, "repository:library/base-%d:pull ", i)
		}
		challenge := transfer.AuthChallenge{Realm: w.realm, Scope: many.String()}
		_, err := w.open(person).GetToken(t.Context(), challenge)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(w.tokens.asked()[0].scopes), 33)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1)
		repo := w.open(person)
		for i := range 100 {
			_, err := repo.GetToken(t.Context(), mount(w, fmt.Sprintf("library/base-%d", i)))
			require.NoError(t, err)
			scopes := w.tokens.asked()[i].scopes
			assert.LessOrEqual(t, len(scopes), 32, "a token is not asked for everything at once")
		}
	})
}
