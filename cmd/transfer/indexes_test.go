package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestH5ReferrersOfACopyAreBounded(t *testing.T) {
	for name, test := range map[string]struct{ padding, flag, most int }{
		"many":  {0, 10, 12},
		"large": {1 << 20, 20, 6},
	} {
		t.Run(name, func(t *testing.T) {
			reg := newAnyRegistry(t)
			m := reg.model(map[string]string{"a": "honest a"})
			var list []string
			for i := range 100 {
				r := reg.putManifest(append(reg.of(titled(reg.put(fmt.Sprint(i)), "a")).Data,
					bytes.Repeat([]byte(" "), test.padding)...), registry.MediaTypeManifest)
				list = append(list, listed(r))
			}
			var asked atomic.Int64
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.Contains(r.URL.Path, "/referrers/"):
					w.Header().Set("Content-Type", registry.MediaTypeIndex)
					fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[%s]}`, strings.Join(list, ","))
					return
				case strings.Contains(r.URL.Path, "/manifests/"):
					asked.Add(1)
				}
				reg.ServeHTTP(w, r)
			}))
			defer front.Close()
			target := startedServer(t)
			r := runWith(t, "copy", "--max-manifests", fmt.Sprint(test.flag),
				front.URL+"/evil/model:"+digest.Digest(m.Digest).Encoded()[:12], target.url+"/me/m:v1")
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stderr, "raise --max-manifests")
			assert.LessOrEqual(t, asked.Load(), int64(test.most))
		})
	}
}

func TestH5LargeManifestsOfAnIndexAreBounded(t *testing.T) {
	reg := newAnyRegistry(t)
	var list []string
	for i := range 4 {
		m := reg.putManifest(append(reg.of(titled(reg.put(fmt.Sprint(i)), "a")).Data,
			bytes.Repeat([]byte(" "), 1<<20)...), registry.MediaTypeManifest)
		list = append(list, listed(m))
	}
	index := reg.putManifest(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`,
		registry.MediaTypeIndex, strings.Join(list, ",")), registry.MediaTypeIndex)
	dir := filepath.Join(t.TempDir(), "layout")
	r := runWith(t, "pull", "--into", "oci", "--max-manifests", "20", reg.ref(index), dir)
	assert.Contains(t, r.stderr, "raise --max-manifests")
	assert.NoDirExists(t, dir)
	must(t, "pull", "--into", "oci", "--max-manifests", "40", reg.ref(index), dir)
}

func TestH5AnIndexThatLiesAboutASizeIsRefused(t *testing.T) {
	reg := newAnyRegistry(t)
	m := reg.model(map[string]string{"a": "honest a"})
	for _, size := range []string{"0", "1", "9223372036854775807"} {
		lie := strings.Replace(listed(m), fmt.Sprintf(`"size":%d`, len(m.Data)), `"size":`+size, 1)
		index := reg.putManifest(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`,
			registry.MediaTypeIndex, lie), registry.MediaTypeIndex)
		dir := filepath.Join(t.TempDir(), "layout")
		for _, args := range [][]string{
			{"pull", "--into", "oci", reg.ref(index), dir},
			{"copy", reg.ref(index), reg.url + "/pushed/m:v1"},
		} {
			r := runWith(t, args...)
			assert.Equal(t, exitFailed, r.code, size)
			assert.Contains(t, r.stderr, "it says that "+m.Digest+" has "+size+" bytes")
		}
		assert.NoDirExists(t, dir)
	}
}

func TestH5IndexesInIndexesAreReadToTheirEnd(t *testing.T) {
	reg := newAnyRegistry(t)
	dir := filepath.Join(t.TempDir(), "layout")
	child := reg.model(map[string]string{"a": "honest a"})
	must(t, "pull", "--into", "oci", reg.ref(child), dir)
	for range 8 {
		child = indexOf(child)
		path := treePath(dir, model.OCILayout, digest.Digest(child.Digest))
		require.NoError(t, os.WriteFile(path, child.Data, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), indexOf(child).Data, 0o600))
	must(t, "prune", dir)
	assert.FileExists(t, treePath(dir, model.OCILayout, digest.FromString("honest a")))
	r := runWith(t, "prune", "--max-manifests", "5", dir)
	assert.Contains(t, r.stderr, "raise --max-manifests")
	padded := append(indexOf(child).Data, bytes.Repeat([]byte(" "), 2<<20)...)
	large := registry.NewManifest(padded, "")
	path := treePath(dir, model.OCILayout, digest.Digest(large.Digest))
	require.NoError(t, os.WriteFile(path, large.Data, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), indexOf(large).Data, 0o600))
	r = runWith(t, "verify", "--max-manifests", "10", dir)
	assert.Contains(t, r.stderr, "raise --max-manifests", "their bytes are bounded too")
}
