package e2e

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
	"github.com/stretchr/testify/assert"

	_ "github.com/distribution/distribution/v3/registry/auth/token"
)

// distribution is the reference registry, configured but not served yet.
type distribution struct {
	configuration.Configuration
}

// newDistribution keeps its blobs in a temporary directory.
func newDistribution(t testing.TB) *distribution {
	t.Helper()
	d := &distribution{}
	d.Storage = configuration.Storage{
		"filesystem": {"rootdirectory": filepath.Join(t.TempDir(), "registry"), "maxthreads": 100},
		"delete":     {"enabled": true},
		// The purger would outlive the test.
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}
	d.HTTP.Secret = "a secret that only the tests know"
	d.Log.AccessLog.Disabled = true
	d.Catalog.MaxEntries = 1000
	return d
}

// withToken lets in who has a token of ts.
func (d *distribution) withToken(ts *tokenServer) *distribution {
	d.Auth = configuration.Auth{"token": {
		"realm": ts.realm(), "service": ts.service, "issuer": ts.issuer, "jwks": ts.keyFile,
	}}
	return d
}

// withStore keeps the blobs in store, and answers GET and HEAD with a redirect to it.
func (d *distribution) withStore(store *objectStore) *distribution {
	delete(d.Storage, "filesystem")
	d.Storage["s3"] = configuration.Parameters{
		"accesskey": store.accessKey, "secretkey": store.secretKey, "region": store.region,
		"regionendpoint": store.url, "bucket": store.bucket, "forcepathstyle": true,
		"secure": false, "v4auth": true,
		"multipartcopythresholdsize": gib, // the store cannot copy in parts
	}
	d.Storage["redirect"] = configuration.Parameters{"disable": false}
	return d
}

// withUpstream makes a pull-through cache of it.
func (d *distribution) withUpstream(url string) *distribution {
	d.Proxy.RemoteURL = url
	return d
}

// handler starts the registry.
func (d *distribution) handler(t testing.TB) http.Handler {
	t.Helper()
	app := handlers.NewApp(context.Background(), &d.Configuration)
	t.Cleanup(func() { assert.NoError(t, app.Shutdown()) })
	return app
}

// serve serves it over HTTP/1.1.
func (d *distribution) serve(t testing.TB) *server {
	t.Helper()
	return serve(t, d.handler(t), false)
}
