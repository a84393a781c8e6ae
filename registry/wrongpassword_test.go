package registry_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

// wrong opens the repository with a wrong password.
func wrong(o *registry.Options) {
	o.Credentials = registry.Credentials{Username: username, Password: "wrong-" + password}
}

// A server that is busy has not looked at the password.
func TestE7BusyServerSaysNothingAboutAPassword(t *testing.T) {
	for _, script := range []string{"429", "503", "429->500->502->504", "400", "405"} {
		t.Run(script, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).basicOnly()
				var shown atomic.Int32
				w.reg.Configure(func(o *registrytest.Options) {
					o.CheckToken = func(r *http.Request) bool {
						if _, _, ok := r.BasicAuth(); ok {
							shown.Add(1)
						}
						return false
					}
				})
				w.reg.Fault("GET", "/manifests/", "401(www-authenticate: Basic realm=x)->"+script)
				repo := w.open(wrong)
				for range 6 {
					_, err := repo.Manifest(t.Context(), "latest")
					require.Error(t, err)
				}
				assert.LessOrEqual(t, shown.Load(), int32(6), "once for each call")
			})
		})
	}
}

// Where everybody may read, only what is written judges a password, and once.
func TestE7WrongPasswordWhereReadsAreAnonymous(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.put("latest", "weights")
		var judged atomic.Int32
		w.reg.Configure(func(o *registrytest.Options) {
			o.Challenge = `Basic realm="registry.test"`
			o.CheckToken = func(r *http.Request) bool {
				if r.Method == http.MethodGet || r.Method == http.MethodHead {
					return true
				}
				if _, _, ok := r.BasicAuth(); ok {
					judged.Add(1)
				}
				return false
			}
		})
		for name, token := range map[string]bool{"from the start": true, "when it is asked for": false} {
			judged.Store(0)
			repo := w.open(wrong)
			if token {
				_, err := repo.GetToken(t.Context(), transfer.AuthChallenge{})
				require.NoError(t, err)
			}
			err := repo.PutManifest(t.Context(), "other", registry.NewManifest([]byte(`{"schemaVersion":2}`), ""))
			require.ErrorIs(t, err, registry.ErrUnauthorized, name)
			assert.EqualValues(t, 1, judged.Load(), name)

			judged.Store(0)
			up := repo.UploadOptions()
			up.SrcDir, up.Blobs = t.TempDir(), []transfer.Blob{{Digest: digest.FromString("x").String(), Size: 1}}
			name := strings.Replace(up.Blobs[0].Digest, ":", "-", 1)
			require.NoError(t, os.WriteFile(filepath.Join(up.SrcDir, name), []byte("x"), 0o600))
			err = transfer.Upload(t.Context(), up)
			require.ErrorIs(t, err, registry.ErrUnauthorized, name)
			assert.EqualValues(t, 1, judged.Load(), name)
		}
	})
}
