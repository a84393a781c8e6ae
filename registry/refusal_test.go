package registry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

// everyCall is each way to ask a registry something.
func everyCall(t *testing.T, repo *registry.Repository) map[string]func(context.Context) error {
	m := registry.NewManifest([]byte(`{"schemaVersion":2}`), "")
	blob := transfer.Blob{Digest: digest.FromString("x").String(), Size: 1}
	return map[string]func(context.Context) error{
		"Manifest": func(ctx context.Context) error { _, err := repo.Manifest(ctx, "latest"); return err },
		"Exists":   func(ctx context.Context) error { _, err := repo.Exists(ctx, "latest"); return err },
		"Tags":     func(ctx context.Context) error { _, err := repo.Tags(ctx); return err },
		"Pull": func(ctx context.Context) error {
			_, err := repo.Pull(ctx, "latest", t.TempDir(), nil)
			return err
		},
		"PutManifest": func(ctx context.Context) error { return repo.PutManifest(ctx, "latest", m) },
		"Download": func(ctx context.Context) error {
			opts := repo.DownloadOptions()
			opts.DestDir, opts.Blobs = t.TempDir(), []transfer.Blob{blob}
			return transfer.Download(ctx, opts)
		},
		"Upload": func(ctx context.Context) error {
			opts := repo.UploadOptions()
			opts.Manifest, opts.ManifestRef = m.Data, "latest"
			return transfer.Upload(ctx, opts)
		},
	}
}

// always answers all requests so.
func (w *world) always(status int, challenge, body string) *world {
	w.reg.Configure(func(o *registrytest.Options) {
		o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
			if challenge != "" {
				rw.Header().Set("WWW-Authenticate", challenge)
			}
			rw.WriteHeader(status)
			if r.Method != http.MethodHead {
				_, _ = io.WriteString(rw, body)
			}
			return true
		}
	})
	return w
}

func TestA6PermissionIsNoWrongPassword(t *testing.T) {
	const bearer = `Bearer realm="%s",service="s",scope="x"`
	for name, c := range map[string]struct {
		status          int
		challenge, body string
		want, not       error
	}{
		"insufficient_scope": {
			401, bearer + `,error="insufficient_scope"`, "", registry.ErrDenied, registry.ErrUnauthorized},
		"403": {403, "", "", registry.ErrDenied, registry.ErrUnauthorized},
		"401": {401, bearer, "", registry.ErrUnauthorized, registry.ErrDenied},
		"401 invalid_token": {
			401, bearer + `,error="invalid_token"`, "", registry.ErrUnauthorized, registry.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				challenge := c.challenge
				if challenge != "" {
					challenge = fmt.Sprintf(challenge, w.realm)
				}
				w.always(c.status, challenge, c.body)
				for call, do := range everyCall(t, w.open(person)) {
					err := do(t.Context())
					require.ErrorIs(t, err, c.want, call)
					require.NotErrorIs(t, err, c.not, call)
					requireStatus(t, err, c.status)
					advised := strings.Contains(err.Error(), "unauthorized: check")
					assert.Equal(t, c.want == registry.ErrUnauthorized, advised)
				}
			})
		})
	}
	for _, code := range []string{"DENIED", "denied"} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode).always(401, "", `{"errors":[{"code":"`+code+`","message":"not yours"}]}`)
			_, err := w.open(person).Manifest(t.Context(), "latest")
			require.ErrorIs(t, err, registry.ErrDenied)
			require.NotErrorIs(t, err, registry.ErrUnauthorized)
		})
	}
}

// What a token server refuses, and why, comes out of every call too.
func TestA6RefusalsOfTheTokenServer(t *testing.T) {
	for answer, want := range map[string]error{
		`401`: registry.ErrUnauthorized,
		`400`: registry.ErrUnauthorized,
		`403`: registry.ErrDenied,
		`says(401,{"errors":[{"code":"DENIED"}]})`: registry.ErrDenied,
		`says(400,{"error":"invalid_scope"})`:      registry.ErrDenied,
		`says(400,{"error":"invalid_grant"})`:      registry.ErrUnauthorized,
	} {
		t.Run(answer, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				w.tokens.front.Fault("", "/token", "**"+answer)
				for call, do := range everyCall(t, w.open(person)) {
					err := do(t.Context())
					require.ErrorIs(t, err, want, call)
					for _, other := range []error{registry.ErrUnauthorized, registry.ErrDenied} {
						assert.Equal(t, other == want, isErr(err, other), call)
					}
					assert.NotContains(t, err.Error(), "check the token", call)
				}
			})
		})
	}
}

// An object store's refusal says nothing about who may do what at the registry.
func TestA6RefusalElsewhereIsNeither(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		store := registrytest.New(registrytest.Options{})
		url := w.net.Serve("store.test", store, mode).URL
		for _, status := range []string{"401", "403"} {
			store.Fault("", "", "**"+status)
			w.reg.Fault("", "", "redirect("+url+"/x)")
			_, err := w.open(person).Manifest(t.Context(), "latest")
			require.Error(t, err)
			require.NotErrorIs(t, err, registry.ErrUnauthorized)
			require.NotErrorIs(t, err, registry.ErrDenied)
			const advice = "not the registry but where it has sent us"
			assert.Contains(t, err.Error(), advice, "one rule for both packages")
			assert.NotContains(t, err.Error(), "check the token")
		}
	})
}

// Nobody's credentials are sent where plain HTTP has led, and the error says so.
func TestN52EverythingIsRedirectedToHTTPS(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		if mode != registrytest.H1 {
			return
		}
		w := newWorld(t, mode)
		w.put("latest", "weights")
		w.reg.Fault("", "", "**ok")
		secure := w.net.Serve("registry.test:8443", w.reg, registrytest.H1TLS).URL
		redirect := func(rw http.ResponseWriter, r *http.Request) bool {
			http.Redirect(rw, r, secure+r.URL.RequestURI(), http.StatusMovedPermanently)
			return true
		}
		plain := registrytest.New(registrytest.Options{Before: redirect})
		base := w.net.Serve("registry.test:8080", plain, registrytest.H1).URL
		at := func(o *registry.Options) { o.BaseURL = base }

		_, err := w.open(at).Manifest(t.Context(), "latest")
		require.NoError(t, err, "without a password it works")

		w.protect()
		for call, do := range everyCall(t, w.open(at, person)) {
			err := do(t.Context())
			require.ErrorIs(t, err, registry.ErrUnauthorized, call)
			assert.Contains(t, err.Error(), "make "+secure+" the base URL", call)
			assert.Contains(t, err.Error(), "on purpose", call)
			assert.NotContains(t, err.Error(), "check the token", call)
		}
		assert.Empty(t, w.tokens.asked())
		for _, r := range w.reg.Requests() {
			assert.Empty(t, r.Header.Get("Authorization"))
		}
	})
}
