package registry_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

// jsonKey is a password as Google's registries want one.
const jsonKey = "{\n  \"type\": \"service_account\",\n" +
	"  \"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMIIE\"\n}\n"

func TestA4PasswordOfSeveralLines(t *testing.T) {
	who := registry.Credentials{Username: "_json_key", Password: jsonKey}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.put("latest", "weights")
		right := false
		w.reg.Configure(func(o *registrytest.Options) {
			o.Challenge = `Basic realm="registry.test"`
			o.CheckToken = func(r *http.Request) bool {
				u, p, ok := r.BasicAuth()
				right = ok && u == "_json_key" && p == jsonKey
				return right
			}
		})
		repo := w.open(func(o *registry.Options) { o.Credentials = who })
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		assert.True(t, right)
	})
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		w.tokens.configure(func(s *tokenServer) { s.anyUser = true })
		repo := w.open(func(o *registry.Options) { o.Credentials = who })
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		assert.Equal(t, "_json_key:"+jsonKey, w.tokens.asked()[0].who)
	})
}

// However a token server quotes it.
func TestA4PasswordOfSeveralLinesIsQuotedNowhere(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(jsonKey), "\n")
	for _, quote := range []string{
		jsonKey, strings.ReplaceAll(jsonKey, "\n", " "), lines[1], lines[2],
		`{"errors":[{"code":"UNAUTHORIZED","message":"{\n  \"type\": \"service_account\",\n` +
			`  \"private_key\""}]}`,
	} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode).protect()
			w.tokens.front.Configure(func(o *registrytest.Options) {
				o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
					http.Error(rw, quote, http.StatusUnauthorized)
					return true
				}
			})
			repo := w.open(func(o *registry.Options) {
				o.Credentials = registry.Credentials{Username: "_json_key", Password: jsonKey}
			})
			_, err := repo.Manifest(t.Context(), "latest")
			require.ErrorIs(t, err, registry.ErrUnauthorized)
			assert.NotContains(t, err.Error(), "service_account", quote)
			assert.NotContains(t, err.Error(), "MIIE", quote)
		})
	}
}

func TestA4TokenIsWhateverAHeaderMayHave(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		const token = "a token, of \"several\" words; é"
		w.tokens.configure(func(s *tokenServer) {
			s.answer = func(string) any { return map[string]string{"token": token} }
		})
		w.reg.Configure(func(o *registrytest.Options) {
			o.CheckToken = func(r *http.Request) bool {
				return r.Header.Get("Authorization") == "Bearer "+token
			}
		})
		_, err := w.open().Manifest(t.Context(), "latest")
		require.NoError(t, err)
	})
}

// A challenge that cannot be answered is passed over, and a realm is resolved against what was asked.
func TestA5UsableChallengeIsAnswered(t *testing.T) {
	for name, challenge := range map[string]string{
		"bearer without a realm": `Bearer service="registry.test", Basic realm="registry.test"`,
		"bearer for people":      `Bearer realm="Registry", Basic realm="registry.test"`,
		"of another scheme":      `Bearer realm="ftp://auth.test/token", Basic realm="registry.test"`,
		"of this machine":        `Bearer realm="http://127.0.0.1/token", Basic realm="registry.test"`,
		"malformed":              `Bearer realm="http://[::1", Basic realm="registry.test"`,
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).basicOnly()
				w.put("latest", "weights")
				w.reg.Configure(func(o *registrytest.Options) { o.Challenge = challenge })
				_, err := w.open(person).Manifest(t.Context(), "latest")
				require.NoError(t, err)
			})
		})
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		w.reg.Configure(func(o *registrytest.Options) {
			o.Challenge = `Bearer realm="/auth/token",service="s"`
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/auth/token" {
					w.tokens.serve(rw, r)
				}
				return r.URL.Path == "/auth/token"
			}
		})
		repo := w.open(person)
		_, err := repo.Pull(t.Context(), "latest", t.TempDir(), nil)
		require.NoError(t, err)
		assert.Equal(t, []string{pullScope}, w.tokens.asked()[0].scopes)
		_, err = repo.GetToken(t.Context(), transfer.AuthChallenge{Realm: "/auth/token"})
		require.NoError(t, err)
	})
}

// A call that its own GetCredentials makes would wait for itself.
func TestE18GetCredentialsThatAsksItsOwnRepository(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		var repo *registry.Repository
		var inner error
		repo = w.open(func(o *registry.Options) {
			o.GetCredentials = func(ctx context.Context) (registry.Credentials, error) {
				_, inner = repo.Manifest(ctx, "latest")
				return registry.Credentials{Username: username, Password: password}, nil
			}
		})
		begun := time.Now()
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		require.ErrorIs(t, inner, transfer.ErrInvalidOption)
		assert.Less(t, time.Since(begun), noBackoff)
	})
}

// A password that was wrong once says nothing about the repositories to mount from.
func TestE18WrongPasswordBansNoMounts(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		who := registry.Credentials{Username: username, Password: "wrong-" + password}
		repo := w.open(func(o *registry.Options) {
			o.GetCredentials = func(context.Context) (registry.Credentials, error) { return who, nil }
		})
		mount := transfer.AuthChallenge{Realm: w.realm, Scope: pushScope + " repository:library/other:pull"}
		_, err := repo.GetToken(t.Context(), mount)
		require.ErrorIs(t, err, registry.ErrUnauthorized)
		who.Password = password
		_, err = repo.GetToken(t.Context(), mount)
		require.NoError(t, err)
		list := w.tokens.asked()
		assert.Equal(t, []string{"repository:library/model:pull,push", "repository:library/other:pull"},
			list[len(list)-1].scopes)
	})
}

// Once a token server has answered, it exists, whatever becomes of it: RetryTimeout is what it has.
func TestE6TokenServerThatIsAway(t *testing.T) {
	gone := &net.DNSError{Err: "no such host", Name: "auth.test", IsNotFound: true}
	for name, down := range map[string]error{"refused": registrytest.Refused(), "NXDOMAIN": gone} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				w.put("latest", "weights")
				repo := w.open(person, func(o *registry.Options) { o.RetryTimeout = time.Minute })
				_, err := repo.Manifest(t.Context(), "latest")
				require.NoError(t, err)

				for call, do := range everyCall(t, repo) {
					if call == "Download" {
						continue // of a blob that is not there
					}
					w.put("latest", "weights")
					w.tokens.forget()
					repo.CloseIdleConnections()
					w.net.Down("auth.test", down)
					time.AfterFunc(15*time.Second, func() { w.net.Down("auth.test", nil) })
					begun := time.Now()
					require.NoError(t, do(t.Context()), call)
					assert.GreaterOrEqual(t, time.Since(begun), 15*time.Second, call)
					assert.Less(t, time.Since(begun), 50*time.Second, call)
				}
			})
		})
	}
}
