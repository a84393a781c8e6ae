package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

const (
	pullScope = "repository:" + repository + ":pull"
	pushScope = "repository:" + repository + ":pull,push"
)

func TestTokenOfEachKindOfCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		credentials func(*registry.Options)
		want        asked
	}{
		"anonymous":      {func(*registry.Options) {}, asked{"GET", "", service, []string{pullScope}}},
		"password":       {person, asked{"GET", username + ":" + password, service, []string{pullScope}}},
		"identity token": {withIdentity, asked{"POST", "refresh:" + identity, service, []string{pullScope}}},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				want := w.put("latest", "weights")
				repo := w.open(c.credentials)
				got, err := repo.Manifest(t.Context(), "latest")
				require.NoError(t, err)
				assert.Equal(t, want, got)
				assert.Equal(t, []asked{c.want}, w.tokens.asked())

				_, err = repo.Manifest(t.Context(), want.Digest)
				require.NoError(t, err)
				assert.Len(t, w.tokens.asked(), 1, "the token is used again")
				time.Sleep(5 * time.Minute)
				_, err = repo.Manifest(t.Context(), want.Digest)
				require.NoError(t, err)
				assert.Len(t, w.tokens.asked(), 2, "but not after its end")
				assert.Equal(t, 2, w.reg.Count("GET", "latest"), "one without a token")
			})
		})
	}
}

// The two calls get their tokens here.
func TestTokenForDownloadAndUpload(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights", "template")
		repo := w.open(person)
		manifest, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		down := repo.DownloadOptions()
		down.DestDir = t.TempDir()
		down.Blobs, err = manifest.Blobs()
		require.NoError(t, err)
		require.NoError(t, transfer.Download(t.Context(), down))
		assert.Len(t, w.tokens.asked(), 1, "Download begins with the token that is there")

		up := repo.UploadOptions()
		up.SrcDir, up.Blobs, up.Manifest, up.ManifestRef = down.DestDir, down.Blobs, manifest.Data, "copy"
		require.NoError(t, transfer.Upload(t.Context(), up))
		list := w.tokens.asked()
		require.Len(t, list, 2)
		assert.Equal(t, []string{pushScope}, list[1].scopes, "to push, though the challenge says pull")
	})
}

func TestRefusedCredentials(t *testing.T) {
	wrong := func(o *registry.Options) {
		o.Credentials = registry.Credentials{Username: username, Password: "wrong-" + password}
	}
	stale := func(o *registry.Options) { o.Credentials.IdentityToken = "stale-" + identity }
	for name, who := range map[string]func(*registry.Options){"password": wrong, "identity token": stale} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				begun := time.Now()
				_, err := w.open(who).Manifest(t.Context(), "latest")
				require.ErrorIs(t, err, registry.ErrUnauthorized)
				requireStatus(t, err, 401)
				assert.Contains(t, err.Error(), "not ", "the token server is quoted")
				w.secretFree(err.Error())
				assert.Len(t, w.tokens.asked(), 1, "a second try may lock the account")
				assert.Less(t, time.Since(begun), noBackoff)
			})
		})
	}
}

func TestRealmsThatAreRefused(t *testing.T) {
	for _, realm := range []string{
		"ftp://auth.test/token", "javascript:alert(1)", "token", "auth.test/token", "://", "https://",
		"http://%zz/", "http://127.0.0.1/token", "http://localhost:5000/token", "http://[::1]/token",
		"http://169.254.169.254/latest", "http://user:pass@auth.test/token",
	} {
		t.Run(realm, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1)
				repo := w.open(person, func(o *registry.Options) { o.BaseURL = "http://192.0.2.1" })
				begun := time.Now()
				_, err := repo.GetToken(t.Context(), transfer.AuthChallenge{Realm: realm})
				require.ErrorIs(t, err, transfer.ErrRedirectRefused)
				assert.Less(t, time.Since(begun), noBackoff)
			})
		})
	}
	t.Run("http for https", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1TLS)
			challenge := transfer.AuthChallenge{Realm: "http://auth.test/token"}
			_, err := w.open(person).GetToken(t.Context(), challenge)
			require.ErrorIs(t, err, transfer.ErrRedirectRefused)
		})
	})
}

func TestTokenIsFetchedOnceForAll(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		w.tokens.front.Fault("", "/token", "**delay(1s)")
		repo := w.open(person)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				_, err := repo.Manifest(t.Context(), "latest")
				assert.NoError(t, err)
			})
		}
		all.Wait()
		assert.Len(t, w.tokens.asked(), 1)
	})
}

// Who asks for a token is the one who waits for it: the others do not fail with it.
func TestTokenOfCancelledCall(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		w.tokens.front.Fault("", "/token", "delay(5s)")
		repo := w.open(person)
		ctx, cancel := context.WithCancel(t.Context())
		var first, second error
		var both sync.WaitGroup
		both.Go(func() { _, first = repo.Manifest(ctx, "latest") })
		synctest.Wait()
		both.Go(func() { _, second = repo.Manifest(t.Context(), "latest") })
		time.Sleep(time.Second)
		cancel()
		both.Wait()
		require.ErrorIs(t, first, context.Canceled)
		require.NoError(t, second)
	})
}

func TestGetCredentials(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		asked, fails := 0, error(nil)
		repo := w.open(func(o *registry.Options) {
			o.GetCredentials = func(context.Context) (registry.Credentials, error) {
				asked++
				return registry.Credentials{Username: username, Password: password}, fails
			}
		})
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		assert.Equal(t, 1, asked, "only when a token is needed")
		time.Sleep(time.Hour)
		fails = errors.New("the helper is not installed")
		begun := time.Now()
		_, err = repo.Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, fails)
		assert.Less(t, time.Since(begun), noBackoff)
		assert.Equal(t, 2, asked)
	})
}

func TestGetCredentialsThatCannotBeSent(t *testing.T) {
	for _, who := range []registry.Credentials{
		{Username: "a:b", Password: password}, {Password: password},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1).protect()
			repo := w.open(func(o *registry.Options) {
				o.GetCredentials = func(context.Context) (registry.Credentials, error) { return who, nil }
			})
			_, err := repo.Manifest(t.Context(), "latest")
			require.ErrorIs(t, err, transfer.ErrInvalidOption)
			w.secretFree(err.Error())
			assert.Empty(t, w.tokens.asked())
		})
	}
}

// A ping judges the credentials, and is no reason to ask for a repository.
func TestPing(t *testing.T) {
	wrong := func(o *registry.Options) {
		o.Credentials = registry.Credentials{Username: username, Password: "wrong"}
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		require.NoError(t, w.open().Ping(t.Context()))
		assert.Equal(t, "/v2/", w.reg.Requests()[0].Path)
		w.reg.Configure(func(o *registrytest.Options) {
			o.Challenge = fmt.Sprintf(`Bearer realm="%s",service="%s"`, w.realm, service)
			o.CheckToken = func(r *http.Request) bool { return w.tokens.knows(r.Header.Get("Authorization")) }
		})
		repo := w.open(person)
		require.NoError(t, repo.Ping(t.Context()))
		assert.Equal(t, []asked{{"GET", username + ":" + password, service, nil}}, w.tokens.asked())
		assert.Empty(t, repo.DownloadOptions().Token, "it is good for nothing else")

		_, err := repo.GetToken(t.Context(), transfer.AuthChallenge{Realm: w.realm})
		require.NoError(t, err)
		require.NoError(t, repo.Ping(t.Context()))
		assert.Len(t, w.tokens.asked(), 3, "a token that is there says nothing of the credentials")
		require.ErrorIs(t, w.open(wrong).Ping(t.Context()), registry.ErrUnauthorized)
	})
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).basicOnly()
		require.NoError(t, w.open(person).Ping(t.Context()))
		require.ErrorIs(t, w.open().Ping(t.Context()), registry.ErrUnauthorized)
		repo := w.open(wrong)
		require.ErrorIs(t, repo.Ping(t.Context()), registry.ErrUnauthorized)
		_, err := repo.Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, registry.ErrUnauthorized)
	})
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Fault("GET", "/v2/", "503->204->200(content-type: text/html)+errorbody(20)")
		require.ErrorIs(t, w.open().Ping(t.Context()), transfer.ErrProtocol)
		require.ErrorIs(t, w.open().Ping(t.Context()), transfer.ErrProtocol)
	})
}

// Anonymous access may be enough for a token and not for the repository.
func TestTokenThatIsNotEnough(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		w.reg.Configure(func(o *registrytest.Options) {
			o.CheckToken = func(*http.Request) bool { return false }
		})
		_, err := w.open().Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, registry.ErrUnauthorized)
		requireStatus(t, err, 401)
		assert.LessOrEqual(t, len(w.tokens.asked()), 2)
	})
}

// A token that is refused before its end is replaced.
func TestRefusedTokenIsReplaced(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		repo := w.open(person)
		for range 2 {
			_, err := repo.Manifest(t.Context(), "latest")
			require.NoError(t, err)
			w.tokens.forget()
		}
		assert.Len(t, w.tokens.asked(), 2)
	})
}
