package registry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

// signature returns a manifest that has a subject.
func signature(subject, artifactType, note string) registry.Manifest {
	data := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":%q,`+
		`"config":{"mediaType":"application/x.c+json",`+
		`"digest":%q,"size":2},"layers":[],"subject":{"digest":%q,"size":1},"annotations":{"note":%q}}`,
		registry.MediaTypeManifest, artifactType, digest.FromString("{}"), subject, note)
	return registry.NewManifest([]byte(data), "")
}

// withoutAPI makes the registry one that has no referrers API.
func (w *world) withoutAPI() *world {
	w.reg.Configure(func(o *registrytest.Options) { o.NoReferrers = true })
	return w
}

func referrersTag(subject string) string { return strings.Replace(subject, ":", "-", 1) }

// digests returns those of descriptors.
func digests(list []registry.Descriptor) (all []string) {
	for _, d := range list {
		all = append(all, d.Digest)
	}
	return all
}

// A registry that has no referrers API gets the list from who pushes.
func TestG3ReferrersTag(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect().withoutAPI()
		subject := w.put("latest", "weights").Digest
		repo := w.open(person, push)
		list, err := repo.Referrers(t.Context(), subject, "")
		require.NoError(t, err)
		assert.Empty(t, list)

		one, two := signature(subject, "application/x.sig", "one"), signature(subject, "", "two")
		require.NoError(t, repo.PutManifest(t.Context(), "", one))
		require.NoError(t, repo.PutManifest(t.Context(), "", one), "again")
		up := repo.UploadOptions()
		up.Manifest, up.ManifestRef = two.Data, "signed"
		require.NoError(t, transfer.Upload(t.Context(), up))

		list, err = repo.Referrers(t.Context(), subject, "")
		require.NoError(t, err)
		require.Equal(t, []string{one.Digest, two.Digest}, digests(list))
		assert.Equal(t, registry.Descriptor{
			MediaType: registry.MediaTypeManifest, ArtifactType: "application/x.sig", Digest: one.Digest,
			Size: int64(len(one.Data)), Annotations: map[string]string{"note": "one"},
		}, list[0])
		assert.Equal(t, "application/x.c+json", list[1].ArtifactType, "that of the config")
		list, err = repo.Referrers(t.Context(), subject, "application/x.sig")
		require.NoError(t, err)
		assert.Equal(t, []string{one.Digest}, digests(list))

		index, err := repo.Manifest(t.Context(), referrersTag(subject))
		require.NoError(t, err)
		assert.Equal(t, registry.MediaTypeIndex, index.MediaType)

		require.NoError(t, repo.Delete(t.Context(), one.Digest))
		list, err = repo.Referrers(t.Context(), subject, "")
		require.NoError(t, err)
		assert.Equal(t, []string{two.Digest}, digests(list))
	})
}

// Where the registry says that it lists them, the tag is left alone.
func TestG3ReferrersAPI(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		subject := digest.FromString("subject").String()
		one, two := signature(subject, "application/a", "one"), signature(subject, "application/b", "two")
		entry := func(m registry.Manifest, artifactType string) string {
			return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"artifactType":%q}`,
				m.MediaType, m.Digest, len(m.Data),
				artifactType)
		}
		w.answers("GET", func(rw http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "/v2/library/model/referrers/"+subject, r.URL.Path)
			rw.Header().Set("Content-Type", registry.MediaTypeIndex)
			list := entry(two, "application/b")
			if r.FormValue("at") == "" {
				list = entry(one, "application/a")
				rw.Header().Set("Link", `<?at=2,1>; rel="next"`)
			}
			fmt.Fprintf(rw, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`,
				registry.MediaTypeIndex, list)
		})
		repo := w.open()
		list, err := repo.Referrers(t.Context(), subject, "")
		require.NoError(t, err)
		assert.Equal(t, []string{one.Digest, two.Digest}, digests(list))
		list, err = repo.Referrers(t.Context(), subject, "application/b")
		require.NoError(t, err)
		assert.Equal(t, []string{two.Digest}, digests(list), "the registry has not filtered them")

		require.NoError(t, repo.PutManifest(t.Context(), "", one))
		assert.Equal(t, 1, w.reg.Count("PUT", ""), "and no list")
	})
}

// Not every registry that does not know the API says 404.
func TestG3RegistriesWithoutTheAPI(t *testing.T) {
	for _, script := range []string{"404", "400", "405", "501", "page"} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode).withoutAPI()
			subject := digest.FromString("subject").String()
			one := signature(subject, "", "one")
			repo := w.open()
			require.NoError(t, repo.PutManifest(t.Context(), "", one))
			w.reg.Fault("GET", "/referrers/", "**"+script)
			list, err := repo.Referrers(t.Context(), subject, "")
			require.NoError(t, err, script)
			assert.Equal(t, []string{one.Digest}, digests(list), script)
		})
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).withoutAPI()
		w.reg.Fault("GET", "/referrers/", "**403")
		_, err := w.open().Referrers(t.Context(), digest.FromString("x").String(), "")
		require.ErrorIs(t, err, registry.ErrDenied, "a refusal is no empty list")
		_, err = w.open().Referrers(t.Context(), "sha256:x", "")
		require.ErrorIs(t, err, transfer.ErrInvalidDigest)
	})
}

func TestG3ManyWritersOfOneProcess(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).withoutAPI()
		subject := digest.FromString("subject").String()
		repos := []*registry.Repository{w.open(), w.open()}
		var writers sync.WaitGroup
		for i := range 20 {
			writers.Go(func() {
				m := signature(subject, "", fmt.Sprint(i))
				assert.NoError(t, repos[i%2].PutManifest(t.Context(), "", m))
			})
		}
		writers.Wait()
		list, err := repos[0].Referrers(t.Context(), subject, "")
		require.NoError(t, err)
		assert.Len(t, list, 20)
		assert.Equal(t, 20, w.reg.Count("PUT", referrersTag(subject)), "nobody has written in vain")
	})
}

// A writer of another process that was faster is not written over, and ours is not lost. What is in the list
// besides stays.
func TestG3WriterOfAnotherProcess(t *testing.T) {
	for name, etag := range map[string]bool{"the registry heeds If-Match": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).withoutAPI()
				subject := digest.FromString("subject").String()
				others := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,`+
					`"manifests":[{"mediaType":"x","digest":%q,"size":1,"urls":["u"]}],`+
					`"annotations":{"kept":"yes"}}`,
					registry.MediaTypeIndex, digest.FromString("other"))
				var puts atomic.Int32
				var mu sync.Mutex
				stored := ""
				w.reg.Configure(func(o *registrytest.Options) {
					o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
						if !strings.HasSuffix(r.URL.Path, "/"+referrersTag(subject)) {
							return false
						}
						mu.Lock()
						defer mu.Unlock()
						tag := `"` + digest.FromString(stored).String() + `"`
						switch {
						case r.Method == http.MethodPut:
							body, _ := io.ReadAll(r.Body)
							first := puts.Add(1) == 1
							if first && etag { // the other comes first
								stored = others
								rw.WriteHeader(http.StatusPreconditionFailed)
								return true
							}
							if etag {
								assert.Equal(t, tag, r.Header.Get("If-Match"))
							}
							if stored = string(body); first { // the other comes last
								stored = others
							}
							rw.WriteHeader(http.StatusCreated)
						case stored == "":
							rw.WriteHeader(http.StatusNotFound)
						default:
							if rw.Header().Set("Content-Type", registry.MediaTypeIndex); etag {
								rw.Header().Set("ETag", tag)
							}
							_, _ = io.WriteString(rw, stored)
						}
						return true
					}
				})
				if etag {
					stored = strings.Replace(others, `"yes"`, `"no"`, 1)
				}
				one := signature(subject, "", "one")
				require.NoError(t, w.open().PutManifest(t.Context(), "", one))
				list, err := w.open().Referrers(t.Context(), subject, "")
				require.NoError(t, err)
				assert.Equal(t, []string{digest.FromString("other").String(), one.Digest}, digests(list))
				var index struct {
					Manifests   []map[string]any
					Annotations map[string]string
				}
				require.NoError(t, json.Unmarshal([]byte(stored), &index))
				assert.Equal(t, []any{"u"}, index.Manifests[0]["urls"])
				assert.Equal(t, "yes", index.Annotations["kept"])
			})
		})
	}
}

// An ETag that is not heeded as it should be is left out, and a tag that is something else is left alone.
func TestG3TagThatCannotBeWritten(t *testing.T) {
	subject := digest.FromString("subject").String()
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).withoutAPI()
		index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[]}`, registry.MediaTypeIndex)
		w.reg.PutManifest(repository, referrersTag(subject), registry.MediaTypeIndex, []byte(index))
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				rw.Header().Set("ETag", `"same"`)
				refuse := r.Header.Get("If-Match") != ""
				if refuse {
					rw.WriteHeader(http.StatusPreconditionFailed)
				}
				return refuse
			}
		})
		require.NoError(t, w.open().PutManifest(t.Context(), "", signature(subject, "", "one")))
		list, err := w.open().Referrers(t.Context(), subject, "")
		require.NoError(t, err)
		assert.Len(t, list, 1)
	})
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).withoutAPI()
		w.put(referrersTag(subject), "weights")
		before, _ := w.reg.Manifest(repository, referrersTag(subject))
		err := w.open().PutManifest(t.Context(), "", signature(subject, "", "one"))
		require.ErrorIs(t, err, transfer.ErrProtocol)
		after, _ := w.reg.Manifest(repository, referrersTag(subject))
		assert.Equal(t, before, after)
	})
	err := newWorld(t, registrytest.H1).open().PutManifest(t.Context(), "", signature("sha256:x", "", "one"))
	require.ErrorIs(t, err, registry.ErrManifest)
}

func TestDelete(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		m := w.put("latest", "weights")
		w.put("other", "more")
		repo := w.open(person)
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = deleting(w)
			o.CheckToken = func(r *http.Request) bool {
				action := "pull"
				if r.Method == http.MethodDelete {
					action = "delete"
				}
				return w.tokens.allows(r.Header.Get("Authorization"), repository, action)
			}
		})
		require.NoError(t, repo.Delete(t.Context(), "other"))
		require.NoError(t, repo.Delete(t.Context(), m.Digest))
		requireStatus(t, repo.Delete(t.Context(), m.Digest), 404)
		require.ErrorIs(t, repo.Delete(t.Context(), "../x"), transfer.ErrInvalidOption)
		assert.Equal(t, []string{"repository:library/model:delete,pull"}, w.tokens.asked()[0].scopes)

		w.put("third", "x")
		w.reg.Fault("DELETE", "", "hangup->404")
		require.NoError(t, repo.Delete(t.Context(), "third"), "the answer to the first was lost")
		w.reg.Fault("DELETE", "", "405")
		requireStatus(t, repo.Delete(t.Context(), "third"), 405)
	})
}

// What does not say that a manifest was deleted, as the 200 of a captive portal, is no success while the
// registry has it.
func TestDeleteIsConfirmed(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for _, c := range []struct {
			script  string
			deleted bool
		}{
			{"ok", true}, {"swallow+200", true}, {"swallow+204", true}, {"200", false},
			{"says(200, {})", false}, {"says(201, deleted)", false}, {"page", false},
		} {
			w := newWorld(t, mode)
			m := w.put("latest", "weights")
			w.reg.Fault("DELETE", "", c.script)
			for _, ref := range []string{"latest", m.Digest} {
				w.reg.PutManifest(repository, "latest", registry.MediaTypeManifest, m.Data)
				err := w.open().Delete(t.Context(), ref)
				_, there := w.reg.Manifest(repository, ref)
				assert.Equal(t, c.deleted, err == nil, "%s of %s: %v", c.script, ref, err)
				assert.Equal(t, c.deleted, !there, c.script)
				if !c.deleted {
					require.ErrorIs(t, err, transfer.ErrProtocol, c.script)
				}
				w.reg.Fault("DELETE", "", c.script)
			}
		}
	})
}

// deleting serves DELETE.
func deleting(w *world) func(http.ResponseWriter, *http.Request) bool {
	deleted := map[string]bool{}
	return func(rw http.ResponseWriter, r *http.Request) bool {
		w.tokens.mu.Lock()
		defer w.tokens.mu.Unlock()
		switch {
		case deleted[r.URL.Path]:
			rw.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodDelete:
			deleted[r.URL.Path] = true
			rw.WriteHeader(http.StatusAccepted)
		default:
			return false
		}
		return true
	}
}
