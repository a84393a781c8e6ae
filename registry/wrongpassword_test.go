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
			m := registry.NewManifest([]byte(`{"schemaVersion":2}`), "")
			err := repo.PutManifest(t.Context(), "other", m)
			require.ErrorIs(t, err, registry.ErrUnauthorized, name)
			assert.EqualValues(t, 1, judged.Load(), name)

			judged.Store(0)
			up := repo.UploadOptions()
			up.SrcDir = t.TempDir()
			up.Blobs = []transfer.Blob{{Digest: digest.FromString("x").String(), Size: 1}}
			name := strings.Replace(up.Blobs[0].Digest, ":", "-", 1)
			require.NoError(t, os.WriteFile(filepath.Join(up.SrcDir, name), []byte("x"), 0o600))
			err = transfer.Upload(t.Context(), up)
			require.ErrorIs(t, err, registry.ErrUnauthorized, name)
			assert.EqualValues(t, 1, judged.Load(), name)
		}
	})
}

// Many requests at once are not as many wrong passwords: one tries it out, and the others wait for that.
func TestE7WrongPasswordOfManyRequestsAtOnce(t *testing.T) {
	for name, anonymous := range map[string]bool{"anonymous reads": true, "closed": false} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				judged := w.refusing(anonymous, "")
				for _, early := range []bool{true, false} {
					repo := w.open(wrong)
					if early {
						_, err := repo.GetToken(t.Context(), transfer.AuthChallenge{})
						require.NoError(t, err)
					}
					judged.Store(0)
					up := w.uploadOf(repo, 40)
					require.ErrorIs(t, transfer.Upload(t.Context(), up), registry.ErrUnauthorized)
					assert.EqualValues(t, 1, judged.Load())
					if anonymous {
						continue
					}
					judged.Store(0)
					down := repo.DownloadOptions()
					down.DestDir, down.Blobs = t.TempDir(), up.Blobs
					err := transfer.Download(t.Context(), down)
					require.ErrorIs(t, err, registry.ErrUnauthorized)
					var status *transfer.StatusError
					require.ErrorAs(t, err, &status)
					assert.EqualValues(t, 1, judged.Load())
				}
			})
		})
	}
}

// The right password serves all who have waited for it, whether the token is asked for or given.
func TestE7RightPasswordOfManyRequestsAtOnce(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		for _, given := range []bool{true, false} {
			judged := w.refusing(false, password)
			repo := w.open(func(o *registry.Options) {
				o.Credentials = registry.Credentials{Username: username, Password: password}
			})
			up := w.uploadOf(repo, 40)
			if given {
				token, err := repo.GetToken(t.Context(), transfer.AuthChallenge{})
				require.NoError(t, err)
				up.Token, up.GetToken = strings.Replace(token, "Basic", "basic", 1), nil
			}
			require.NoError(t, transfer.Upload(t.Context(), up))
			assert.Zero(t, judged.Load())
		}
	})
}

// refusing has the registry want Basic authentication with that password, and returns how many others it was
// shown.
func (w *world) refusing(anonymousReads bool, right string) *atomic.Int32 {
	judged := new(atomic.Int32)
	w.reg.Configure(func(o *registrytest.Options) {
		o.Challenge = `Basic realm="registry.test"`
		o.CheckToken = func(r *http.Request) bool {
			if anonymousReads && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
				return true
			}
			_, shown, ok := r.BasicAuth()
			if ok && shown != right {
				judged.Add(1)
			}
			return ok && shown == right
		}
	})
	return judged
}

// uploadOf returns an upload of so many small blobs.
func (w *world) uploadOf(repo *registry.Repository, blobs int) transfer.UploadOptions {
	up := repo.UploadOptions()
	up.SrcDir = w.t.TempDir()
	for i := range blobs {
		c := registrytest.ContentOf(1000, uint64(i))
		w.reg.Expect(c.Digest, c.Data)
		up.Blobs = append(up.Blobs, transfer.Blob{Digest: c.Digest.String(), Size: int64(len(c.Data))})
		name := strings.Replace(c.Digest.String(), ":", "-", 1)
		require.NoError(w.t, os.WriteFile(filepath.Join(up.SrcDir, name), c.Data, 0o600))
	}
	return up
}

// A mount is refused for the repository that it is from, and the blobs are sent with the same password.
func TestE7RefusedMountSaysNothingAboutAPassword(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Configure(func(o *registrytest.Options) {
			o.Challenge = `Basic realm="registry.test"`
			o.CheckToken = func(r *http.Request) bool {
				_, shown, _ := r.BasicAuth()
				return shown == password && !r.URL.Query().Has("mount")
			}
		})
		repo := w.open(func(o *registry.Options) {
			o.Credentials = registry.Credentials{Username: username, Password: password}
		})
		up := w.uploadOf(repo, 40)
		for i := range up.Blobs {
			up.Blobs[i].From = "somebody/else"
		}
		require.NoError(t, transfer.Upload(t.Context(), up))
	})
}
