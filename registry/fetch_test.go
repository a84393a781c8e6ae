package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

// page is what a captive portal or a log-in page answers to everything.
const page = "<html><body>Please log in</body></html>"

// answers has the handler take all requests of a method.
func (w *world) answers(method string, handler http.HandlerFunc) {
	w.reg.Configure(func(o *registrytest.Options) {
		o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != method {
				return false
			}
			handler(rw, r)
			return true
		}
	})
}

func TestManifestByTagAndDigest(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		want := w.put("latest", "weights")
		repo := w.open()
		for _, ref := range []string{"latest", want.Digest} {
			got, err := repo.Manifest(t.Context(), ref)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		}
		sha512 := digest.SHA512.FromBytes(want.Data)
		w.reg.PutManifest(repository, sha512.String(), registry.MediaTypeManifest, want.Data)
		got, err := repo.Manifest(t.Context(), sha512.String())
		require.NoError(t, err)
		assert.Equal(t, sha512.String(), got.Digest, "the digest that was asked for")

		for _, r := range w.reg.Requests() {
			require.Len(t, r.Header.Values("Accept"), 1, "servers exist that read only the first")
			for _, mediaType := range []string{
				registry.MediaTypeManifest, registry.MediaTypeIndex,
				registry.MediaTypeDockerManifest, registry.MediaTypeDockerIndex,
			} {
				assert.Contains(t, r.Header.Get("Accept"), mediaType)
			}
			assert.Equal(t, "modeltransfer/1.0", r.Header.Get("User-Agent"))
		}
	})
}

func TestManifestMediaType(t *testing.T) {
	docker := `{"schemaVersion":2,"mediaType":"` + registry.MediaTypeDockerManifest + `"}`
	for _, c := range []struct{ contentType, data, want string }{
		{registry.MediaTypeIndex + "; charset=utf-8", `{}`, registry.MediaTypeIndex},
		{"", docker, registry.MediaTypeDockerManifest},
		{"application/json", docker, registry.MediaTypeDockerManifest},
		{"text/plain; charset=utf-8", docker, registry.MediaTypeDockerManifest},
		{"application/octet-stream", `{"manifests":[]}`, registry.MediaTypeIndex},
		{"text/html", docker, registry.MediaTypeDockerManifest}, // some registries call everything so
		{"application/vnd.example+json", `{}`, "application/vnd.example+json"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registrytest.H1)
			w.answers("GET", func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
				rw.Header()["Content-Type"] = []string{c.contentType}
				fmt.Fprint(rw, c.data)
			})
			m, err := w.open().Manifest(t.Context(), "latest")
			require.NoError(t, err)
			assert.Equal(t, c.want, m.MediaType)
			assert.Equal(t, digest.FromString(c.data).String(), m.Digest)
		})
	}
}

func TestManifestIsAskedForAgain(t *testing.T) {
	for script, want := range map[string]time.Duration{
		"503(retry-after: 7)":    7 * time.Second,
		"hangup->reset(9)":       0,
		"eof(20)->truncchunk(5)": 0,
		"stall(20)":              10 * time.Second,
		"stallheaders":           10 * time.Second,
		"500->502->504->429":     0,
	} {
		t.Run(script, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				m := w.put("latest", "weights")
				w.reg.Fault("GET", "/manifests/", script)
				begun := time.Now()
				got, err := w.open().Manifest(t.Context(), "latest")
				require.NoError(t, err)
				assert.Equal(t, m, got)
				assert.GreaterOrEqual(t, time.Since(begun), want)
				assert.Less(t, time.Since(begun), want+5*time.Second)
			})
		})
	}
}

func TestManifestFailsAtOnce(t *testing.T) {
	for _, status := range []int{400, 403, 404, 410, 501} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.reg.Fault("GET", "/manifests/", fmt.Sprintf("**%d", status))
			begun := time.Now()
			_, err := w.open().Manifest(t.Context(), "latest")
			requireStatus(t, err, status)
			assert.Contains(t, err.Error(), "injected fault", "the registry is quoted")
			assert.Less(t, time.Since(begun), noBackoff)
			assert.Equal(t, 1, w.reg.Count("GET", ""))
		})
	}
}

func TestManifestIsGivenUp(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Fault("GET", "/manifests/", "**503")
		begun := time.Now()
		repo := w.open(func(o *registry.Options) { o.RetryTimeout = time.Minute })
		_, err := repo.Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
		requireStatus(t, err, 503)
		assert.InDelta(t, time.Minute.Seconds(), time.Since(begun).Seconds(), 5)
	})
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Fault("GET", "/manifests/", "**stallheaders")
		repo := w.open(func(o *registry.Options) {
			o.RetryTimeout, o.StallTimeout = time.Second, 3*time.Second
		})
		begun := time.Now()
		_, err := repo.Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, transfer.ErrStalled)
		assert.Less(t, time.Since(begun), 4*time.Second)
	})
}

func TestManifestOfCancelledContext(t *testing.T) {
	for _, script := range []string{"**503", "**stallheaders"} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.reg.Fault("GET", "/manifests/", script)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			begun := time.Now()
			_, err := w.open().Manifest(ctx, "latest")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, 3*time.Second, time.Since(begun))
		})
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Fault("GET", "/manifests/", "**stallheaders")
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the user has closed the window")
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err := w.open().Manifest(ctx, "latest")
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, why)
	})
	var none context.Context
	_, err := newWorld(t, registrytest.H1).open().Manifest(none, "latest")
	require.ErrorIs(t, err, transfer.ErrInvalidOption)
}

func TestManifestIsNotWhatItsDigestSays(t *testing.T) {
	for script, tag := range map[string]string{
		"flip(30)": "latest",
		"header(Docker-Content-Digest: sha256:" + strings.Repeat("a", 64) + ")": "latest",
		"header(-Docker-Content-Digest)+flip(12)":                               "",
	} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			m := w.put("latest", "weights")
			w.reg.Fault("GET", "/manifests/", "**"+script)
			ref := tag
			if ref == "" {
				ref = m.Digest
			}
			got, err := w.open().Manifest(t.Context(), ref)
			require.ErrorIs(t, err, transfer.ErrDigestMismatch)
			assert.Zero(t, got)
			assert.Equal(t, 1, w.reg.Count("GET", ""))
		})
	}
}

// What the header says is no digest is not believed, and no reason to fail.
func TestManifestWithMalformedDigestHeader(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		m := w.put("latest", "weights")
		md5 := "md5:" + strings.Repeat("a", 32)
		for _, value := range []string{"x", "sha256:abc", md5, "../../etc/passwd"} {
			w.reg.Fault("GET", "/manifests/", "header(Docker-Content-Digest: "+value+")")
			got, err := w.open().Manifest(t.Context(), "latest")
			require.NoError(t, err)
			assert.Equal(t, m.Digest, got.Digest)
		}
	})
}

func TestU15PageInsteadOfManifest(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"page": func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(rw, page)
		},
		"page without a type": func(rw http.ResponseWriter, r *http.Request) {
			rw.Header()["Content-Type"] = nil
			fmt.Fprint(rw, page)
		},
		"page called a manifest": func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", registry.MediaTypeManifest)
			fmt.Fprint(rw, page)
		},
		"JSON called a page": func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/html")
			fmt.Fprint(rw, "{}")
		},
		"padded beyond 4 MiB": func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, "{}"+strings.Repeat(" ", 5<<20))
		},
		"nothing":  func(rw http.ResponseWriter, r *http.Request) {},
		"an array": func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, `["x"]`) },
		"204":      func(rw http.ResponseWriter, r *http.Request) { rw.WriteHeader(204) },
		"206": func(rw http.ResponseWriter, r *http.Request) {
			rw.WriteHeader(206)
			fmt.Fprint(rw, "{}")
		},
		"5 MiB": func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(rw, `{"x":"%s"}`, strings.Repeat("x", 5<<20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				w.answers("GET", handler)
				begun := time.Now()
				m, err := w.open().Manifest(t.Context(), "latest")
				require.ErrorIs(t, err, transfer.ErrProtocol)
				assert.Contains(t, err.Error(), "is this a registry?")
				assert.Zero(t, m)
				assert.Less(t, time.Since(begun), noBackoff)
			})
		})
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.put("latest", "weights")
		w.reg.Fault("GET", "/manifests/", "endless")
		_, err := w.open().Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, transfer.ErrProtocol)
		assert.Less(t, w.reg.BytesSent(), int64(16<<20))
	})
}

func TestMalformedReferences(t *testing.T) {
	w := newWorld(t, registrytest.H1)
	repo := w.open()
	for ref, want := range map[string]error{
		"":                               transfer.ErrInvalidOption,
		"../x":                           transfer.ErrInvalidOption,
		"a/b":                            transfer.ErrInvalidOption,
		"latest?x=1":                     transfer.ErrInvalidOption,
		strings.Repeat("x", 129):         transfer.ErrInvalidOption,
		"sha256:abc":                     transfer.ErrInvalidDigest,
		"md5:" + strings.Repeat("a", 32): transfer.ErrInvalidDigest,
		"sha256:../../../etc/passwd":     transfer.ErrInvalidDigest,
	} {
		_, err := repo.Manifest(t.Context(), ref)
		require.ErrorIs(t, err, want, "%q", ref)
		_, err = repo.Exists(t.Context(), ref)
		require.ErrorIs(t, err, want, "%q", ref)
		if ref != "" {
			err = repo.PutManifest(t.Context(), ref, registry.Manifest{Data: []byte("{}")})
			require.ErrorIs(t, err, want, "%q", ref)
		}
	}
	assert.Empty(t, w.reg.Requests())
}

func TestExists(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		m := w.put("latest", "weights")
		repo := w.open(person)
		for ref, want := range map[string]bool{
			"latest": true, m.Digest: true, "other": false, digest.FromString("x").String(): false,
		} {
			got, err := repo.Exists(t.Context(), ref)
			require.NoError(t, err)
			assert.Equal(t, want, got, ref)
		}
		assert.Zero(t, w.reg.Count("GET", ""), "headers are enough")

		w.reg.Fault("HEAD", "", "503")
		got, err := repo.Exists(t.Context(), "latest")
		require.NoError(t, err)
		assert.True(t, got)
		w.reg.Fault("HEAD", "", "403")
		_, err = repo.Exists(t.Context(), "latest")
		requireStatus(t, err, 403)
	})
}

// A server that does not know HEAD is asked for the manifest.
func TestExistsWhereHeadIsRefused(t *testing.T) {
	for _, script := range []string{"**405", "**501"} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.put("latest", "weights")
			w.reg.Fault("HEAD", "", script)
			for ref, want := range map[string]bool{"latest": true, "other": false} {
				got, err := w.open().Exists(t.Context(), ref)
				require.NoError(t, err)
				assert.Equal(t, want, got, ref)
			}
		})
	}
}

func TestU15PageInsteadOfHeaders(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				rw.Header().Set("Content-Type", "text/html")
				fmt.Fprint(rw, page)
				return true
			}
		})
		exists, err := w.open().Exists(t.Context(), "latest")
		require.ErrorIs(t, err, transfer.ErrProtocol)
		assert.False(t, exists)
	})
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.put("latest", "weights")
		w.reg.Fault("HEAD", "", "**header(-Docker-Content-Digest; Content-Type: application/json)")
		exists, err := w.open().Exists(t.Context(), "latest")
		require.NoError(t, err)
		assert.True(t, exists, "a registry that says little is asked for the manifest")
	})
}
