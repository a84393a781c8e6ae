package serve_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func putManifest(t *testing.T, base, version, text string) (digest.Digest, string) {
	t.Helper()
	resp, body := call(t, "PUT", base+"/v2/me/model/manifests/"+version, text, "Content-Type", manifestType)
	require.Equal(t, 201, resp.StatusCode, body)
	return digest.FromString(text), resp.Header.Get("OCI-Subject")
}

func TestReferrersAreListed(t *testing.T) {
	base := start(t, t.TempDir(), false)
	text := manifestOf(put(t, base, "{}"), 2)
	model := digest.FromString(text) // is not there yet
	about := func(artifactType string) string {
		return strings.TrimSuffix(text, "}") + fmt.Sprintf(
			`,"artifactType":%q,"annotations":{"a":"b"},"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
			artifactType, manifestType, model, len(text))
	}
	signature, subject := putManifest(t, base, "sig", about("x/signature"))
	assert.Equal(t, model.String(), subject)
	bill, _ := putManifest(t, base, digest.FromString(about("")).String(), about(""))
	_, subject = putManifest(t, base, "v1", text)
	assert.Empty(t, subject)

	list := base + "/v2/me/model/referrers/"
	resp, body := call(t, "GET", list+model.String(), "")
	require.Equal(t, 200, resp.StatusCode)
	assert.Equal(t, "application/vnd.oci.image.index.v1+json", resp.Header.Get("Content-Type"))
	assert.Empty(t, resp.Header.Get("OCI-Filters-Applied"))
	assert.Contains(t, body, signature.String())
	assert.Contains(t, body, bill.String())
	assert.Contains(t, body, `"artifactType":"x/y"`, "that of the config, where there is no other")
	resp, body = call(t, "GET", list+model.String()+"?artifactType=x/signature", "")
	assert.Equal(t, "artifactType", resp.Header.Get("OCI-Filters-Applied"))
	assert.JSONEq(t, fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",
		"manifests":[{"mediaType":%q,"digest":%q,"size":%d,
			"artifactType":"x/signature","annotations":{"a":"b"}}]}`,
		manifestType, signature, len(about("x/signature"))), body)

	resp, _ = call(t, "DELETE", base+"/v2/me/model/manifests/"+signature.String(), "")
	require.Equal(t, 202, resp.StatusCode)
	_, body = call(t, "GET", list+model.String()+"?artifactType=x/signature", "")
	assert.Contains(t, body, `"manifests":[]`)
	resp, body = call(t, "GET", base+"/v2/you/none/referrers/"+model.String(), "")
	assert.Equal(t, 200, resp.StatusCode, "clients take a 404 for a registry that has no such lists")
	assert.Contains(t, body, `"manifests":[]`)
	resp, _ = call(t, "GET", list+"sha256:x", "")
	assert.Equal(t, 400, resp.StatusCode)
}

// Whoever may push decides how large the list is that others read.
func TestH5ReferrersComePageByPage(t *testing.T) {
	base := start(t, t.TempDir(), false)
	text := manifestOf(put(t, base, "{}"), 2)
	model, want := digest.FromString(text), map[string]bool{}
	for i := range 5 {
		dg, _ := putManifest(t, base, "v1", strings.TrimSuffix(text, "}")+fmt.Sprintf(
			`,"artifactType":"x/s","annotations":{"a":"%d%s"},`+
				`"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
			i, strings.Repeat("a", 400<<10), manifestType, model, len(text)))
		want[dg.String()] = true
	}
	got, pages := map[string]bool{}, 0
	for path := "/v2/me/model/referrers/" + model.String() + "?artifactType=x/s"; path != ""; pages++ {
		resp, body := call(t, "GET", base+path, "")
		require.Equal(t, 200, resp.StatusCode)
		assert.Less(t, len(body), 1<<20)
		var list struct{ Manifests []struct{ Digest string } }
		require.NoError(t, json.Unmarshal([]byte(body), &list))
		for _, d := range list.Manifests {
			assert.False(t, got[d.Digest], "each comes once")
			got[d.Digest] = true
		}
		path, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
	assert.Equal(t, want, got)
	assert.Equal(t, 3, pages)
}

func TestATagGoesWithItsManifest(t *testing.T) {
	for name, path := range map[string]string{"the manifest": "/manifests/", "its blob": "/blobs/"} {
		t.Run(name, func(t *testing.T) {
			base := start(t, t.TempDir(), false)
			config := put(t, base, "{}")
			first, _ := putManifest(t, base, "v1", manifestOf(config, 2))
			putManifest(t, base, "latest", manifestOf(config, 2))
			putManifest(t, base, "v2", manifestOf(config, 2)+" ")
			resp, _ := call(t, "DELETE", base+"/v2/me/model"+path+first.String(), "")
			require.Equal(t, 202, resp.StatusCode)
			_, body := call(t, "GET", base+"/v2/me/model/tags/list", "")
			assert.JSONEq(t, `{"name":"me/model","tags":["v2"]}`, body)
			resp, _ = call(t, "GET", base+"/v2/me/model/manifests/latest", "")
			assert.Equal(t, 404, resp.StatusCode)
			putManifest(t, base, "v3", manifestOf(config, 2))
			_, body = call(t, "GET", base+"/v2/me/model/tags/list", "")
			assert.Contains(t, body, `"v3"`)
		})
	}
}

func TestH12LayersThatMayNotBeDistributedAreNotAskedFor(t *testing.T) {
	base := start(t, t.TempDir(), false)
	for mediaType, want := range map[string]int{
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip":    201,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":       201,
		"application/vnd.oci.image.layer.v1.tar+gzip":                     400,
		"application/vnd.oci.image.layer.nondistributablex.but.something": 400,
	} {
		layer := fmt.Sprintf(
			`"layers":[{"mediaType":%q,"digest":%q,"size":4,"urls":["https://other.example/x"]}]`,
			mediaType, digest.FromString("none"))
		text := strings.Replace(manifestOf(put(t, base, "{}"), 2), `"layers":[]`, layer, 1)
		resp, body := call(t, "PUT", base+"/v2/me/model/manifests/v1", text, "Content-Type", manifestType)
		assert.Equal(t, want, resp.StatusCode, body)
	}
}
