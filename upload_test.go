package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

func TestUpload(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
		opts := w.uploadOptions(w.local(10), w.local(0), w.local(1<<20), w.local(largeSize))
		opts.Manifest, opts.ManifestRef = []byte(`{"schemaVersion":2}`), "latest"
		require.NoError(t, w.upload(opts))
		w.reg.Wait()
		assert.EqualValues(t, 10+1<<20+largeSize+len(opts.Manifest), w.reg.BytesReceived(),
			"bytes on the wire")
		assert.Zero(t, w.reg.Sessions())
		got, ok := w.reg.Manifest(repository, "latest")
		require.True(t, ok)
		assert.Equal(t, opts.Manifest, got)
	})
}

func TestUploadAsksThreeTimesForABlob(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions()
		for i := range 30 {
			opts.Blobs = append(opts.Blobs, w.local(i*50_000))
		}
		require.NoError(t, w.upload(opts))
		w.reg.Wait()
		assert.LessOrEqual(t, len(w.reg.Requests()), 3*len(opts.Blobs))
		assert.Equal(t, len(opts.Blobs), w.reg.Count("PUT", ""))
		assert.Equal(t, 50_000*29*30/2, int(w.reg.BytesReceived()))
	})
}

func TestUploadOfWhatIsThere(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(0), w.local(100), w.local(largeSize))
		for _, b := range opts.Blobs {
			w.reg.Put(repository, w.data(b))
		}
		require.NoError(t, w.upload(opts))
		assert.Len(t, w.reg.Requests(), 3)
		assert.Equal(t, 3, w.reg.Count("HEAD", "/blobs/"))
		total := int64(100 + largeSize)
		assert.Equal(t, [2]int64{total, total}, w.progress.calls[len(w.progress.calls)-1])

		missing := w.local(200)
		opts.Blobs = append(opts.Blobs, missing)
		require.NoError(t, w.upload(opts))
		w.reg.Wait()
		assert.Equal(t, missing.Size, w.reg.BytesReceived())
		assert.Equal(t, 1, w.reg.Count("PUT", ""))
	})
}

func TestUploadOfABlobThatIsListedTwice(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		require.NoError(t, w.upload(w.uploadOptions(b, b, b)))
		assert.Equal(t, []string{"HEAD", "PUT"}, w.requestsOf(b))
		assert.Equal(t, b.Size, w.progress.calls[0][1], "total")
	})
}

func TestUploadWithOtherDigests(t *testing.T) {
	cases := named(string(digest.SHA384), string(digest.SHA512))
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, algorithm string) {
		w := newWorld(t, mode, registrytest.Options{})
		data := []byte("blob")
		b := transfer.Blob{Digest: digest.Algorithm(algorithm).FromBytes(data).String(), Size: 4}
		w.content[digest.Digest(b.Digest)] = data
		require.NoError(t, os.WriteFile(w.path(b), data, 0o644))
		require.NoError(t, w.upload(w.uploadOptions(b)))
	})
}

func TestUploadsOfTheSameBlobsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		blobs := []transfer.Blob{w.local(10), w.local(3 << 20), w.local(34 << 20)}
		var g errgroup.Group
		for range 3 {
			opts := w.uploadOptions(blobs...)
			opts.Progress = nil
			g.Go(func() error { return transfer.Upload(t.Context(), opts) })
		}
		require.NoError(t, g.Wait())
		w.reg.Wait()
		for _, b := range blobs {
			data, _ := w.reg.Blob(digest.Digest(b.Digest))
			assert.True(t, bytes.Equal(w.data(b), data))
		}
		assert.Zero(t, w.reg.Sessions())
	})
}

// Small blobs are not asked about one by one where the registry has none of them, yet what it has is
// hardly ever sent.
func TestUploadAsksLittleWhereAllIsMissing(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		const each, ahead = 200, 5
		var blobs []transfer.Blob
		for i := range 2 * each {
			blobs = append(blobs, w.local(1000+i))
		}
		opts := w.uploadOptions(blobs[each:]...)
		opts.Concurrency = 1
		require.NoError(t, w.upload(opts))
		assert.InDelta(t, 32+(each-32)/16, w.reg.Count("HEAD", "/blobs/"), ahead)

		asked, begun := w.reg.Count("HEAD", "/blobs/"), w.reg.Count("POST", "/uploads/")
		require.NoError(t, w.upload(opts))
		assert.Equal(t, each, w.reg.Count("HEAD", "/blobs/")-asked, "what is there is found by asking")
		assert.Equal(t, begun, w.reg.Count("POST", "/uploads/"))

		again := newWorld(t, mode, registrytest.Options{})
		for _, b := range blobs[:each] { // the smaller half, which comes later
			again.reg.Put(repository, w.data(b))
		}
		again.dir, again.content = w.dir, w.content
		opts = again.uploadOptions(blobs...)
		opts.Concurrency = 1
		require.NoError(t, again.upload(opts))
		assert.InDelta(t, each+16, again.reg.Count("POST", "/uploads/"), 16+ahead,
			"one hit, and all are asked about")
	})
}

func TestHeadThatDoesNotTell(t *testing.T) {
	cases := named("400", "403", "405", "410", "501")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("HEAD", "", "**"+script)
		b := w.local(3 << 20)
		begun := time.Now()
		require.NoError(t, w.upload(w.uploadOptions(b)))
		assert.Equal(t, []string{"HEAD", "PUT"}, w.requestsOf(b))
		assert.Less(t, time.Since(begun), noBackoff)
	})
}

func TestSingleRequestForSmallBlobs(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for _, single := range []bool{true, false} {
			w := newWorld(t, mode, registrytest.Options{SingleShot: single})
			var blobs []transfer.Blob
			for i := range 20 {
				blobs = append(blobs, w.local(1000+i))
			}
			opts := w.uploadOptions(blobs...)
			opts.Concurrency = 1
			require.NoError(t, w.upload(opts))
			w.reg.Wait()
			var sum int64
			for _, b := range blobs {
				sum += b.Size
			}
			assert.Equal(t, sum, w.reg.BytesReceived(), "bytes on the wire")
			if single {
				const ahead = 4 // had begun when the trial was answered
				assert.LessOrEqual(t, len(w.reg.Requests()), 2*len(blobs)+ahead)
			} else {
				assert.Len(t, w.reg.Requests(), 3*len(blobs))
			}
		}
	})
}

// A registry that breaks the connection when a body comes with the request that begins an upload gets
// none of them again.
func TestSingleRequestThatBreaksTheConnection(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("POST", "digest=", "**reset")
		opts := w.uploadOptions(w.local(1000), w.local(1001), w.local(1002))
		opts.Concurrency = 1
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 1, w.reg.Count("POST", "digest="))
	})
}

func TestU13Mount(t *testing.T) {
	type test struct {
		noMount, elsewhere bool
		script             string
		posts, puts        int
	}
	cases := map[string]test{
		"done":                  {elsewhere: true, posts: 1},
		"U13 refused with 202":  {elsewhere: true, noMount: true, posts: 1, puts: 1},
		"U13 not there":         {posts: 1, puts: 1},
		"refused with 404":      {elsewhere: true, script: "404", posts: 2, puts: 1},
		"refused with 405":      {elsewhere: true, script: "405", posts: 2, puts: 1},
		"refused with 403":      {elsewhere: true, script: "403", posts: 2, puts: 1},
		"503, then done":        {elsewhere: true, script: "503", posts: 2},
		"done, the answer lost": {elsewhere: true, script: "swallow", posts: 1},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		w := newWorld(t, mode, registrytest.Options{NoMount: c.noMount})
		b := w.local(3 << 20)
		b.From = "library/other"
		if c.elsewhere {
			w.reg.Put(b.From, w.data(b))
		}
		if c.script != "" {
			w.reg.Fault("POST", "mount", c.script)
		}
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.True(t, w.reg.Has(repository, digest.Digest(b.Digest)))
		assert.Equal(t, c.posts, w.reg.Count("POST", ""))
		assert.Equal(t, c.puts, w.reg.Count("PUT", ""))
		assert.Equal(t, int64(c.puts)*b.Size, w.reg.BytesReceived())
		assert.Equal(t, 1+strings.Count(c.script, "503"),
			w.reg.Count("POST", "from=library%2Fother&mount="+url.QueryEscape(b.Digest)))
		assert.Zero(t, w.reg.Sessions())
	})
}

// A token may be good for the target alone, while a mount needs one for both repositories.
func TestU13MountThatTheTokenDoesNotAllow(t *testing.T) {
	type give func(context.Context, int) (string, error)
	cases := map[string]give{
		"no GetToken": nil,
		"not granted": func(context.Context, int) (string, error) { return "token", nil },
		"denied":      func(context.Context, int) (string, error) { return "", errors.New("denied") },
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, give give) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		b.From = "library/other"
		w.reg.Put(b.From, w.data(b))
		w.reg.Fault("POST", "mount", "**401")
		opts := w.uploadOptions(b)
		if give != nil {
			opts.GetToken = (&issuer{give: give}).getToken
		}
		require.NoError(t, w.upload(opts))
		assert.Equal(t, b.Size, w.reg.BytesReceived())
	})
}

// Where nothing is mounted, what the repository has already is not sent.
func TestU13MountOfWhatIsThere(t *testing.T) {
	eachInBubbles(t, named("ok", "**404"), func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{NoMount: true})
		w.reg.Fault("POST", "mount", script)
		b := w.local(3 << 20)
		b.From = "library/other"
		w.reg.Put(repository, w.data(b))
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Zero(t, w.reg.BytesReceived())
		assert.Zero(t, w.reg.Sessions())
	})
}

// The digest is told to the Ollama registry with each large blob, which it may have in another repository.
func TestU24LargeBlobsAreMountedByTheirDigest(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.ServeOllama(w.net, "store.test", mode, registrytest.Ollama{})
		opts := w.uploadOptions(w.local(5<<20), w.local(1000), w.local(3<<20))
		tell := func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			for _, b := range opts.Blobs {
				if b.Size > mebibyte && r.URL.Query().Get("digest") == b.Digest {
					w.reg.Put(repository, w.data(b))
					rw.Header().Set("Docker-Content-Digest", b.Digest)
					rw.WriteHeader(http.StatusCreated)
					return true
				}
			}
			return false
		}
		w.reg.Configure(func(o *registrytest.Options) { o.Before = tell })
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 3, w.reg.Count("POST", ""))
		assert.Zero(t, w.reg.Count("DELETE", ""))
	})
}

// A digest that is listed twice is mounted from where the second says.
func TestE18FromOfABlobThatIsListedTwice(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		w.reg.Put("library/other", w.data(b))
		again := b
		again.From = "other"
		require.NoError(t, w.upload(w.uploadOptions(b, again)))
		assert.Zero(t, w.reg.BytesReceived())
	})
}

// S7: people keep their blobs on another disk.
func TestS7LinkedSourceIsSent(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	b := w.local(100)
	elsewhere := filepath.Join(t.TempDir(), "blob")
	require.NoError(t, os.Rename(w.path(b), elsewhere))
	require.NoError(t, os.Symlink(elsewhere, w.path(b)))
	require.NoError(t, w.upload(w.uploadOptions(b)))
	assert.True(t, w.reg.Has(repository, digest.Digest(b.Digest)))
}

func TestU6SourceOfAnotherSize(t *testing.T) {
	for _, by := range []int64{-1, 1} {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.local(3 << 20)
		require.NoError(t, os.Truncate(w.path(b), b.Size+by))
		err := w.upload(w.uploadOptions(b))
		require.ErrorIs(t, err, transfer.ErrSizeMismatch)
		requireBlobError(t, err, b, "upload")
		assert.Empty(t, w.reg.Requests())
	}
}

func TestU7FileThatIsNotItsDigest(t *testing.T) {
	for name, size := range map[string]int{"small": 1000, "large": 3 << 20} {
		for _, opts := range []registrytest.Options{{}, {SingleShot: true}, {MaxBody: 2 << 20}} {
			t.Run(fmt.Sprintf("%s %v %d", name, opts.SingleShot, opts.MaxBody), func(t *testing.T) {
				inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
					w := newWorld(t, mode, opts)
					b := w.local(size)
					wrong := append([]byte(nil), w.data(b)...)
					wrong[0] ^= 1
					require.NoError(t, os.WriteFile(w.path(b), wrong, 0o644))
					up := w.uploadOptions(b)
					up.Manifest, up.ManifestRef = []byte(`{}`), "latest"
					begun := time.Now()
					err := w.upload(up)
					require.ErrorIs(t, err, transfer.ErrDigestMismatch)
					requireBlobError(t, err, b, "upload")
					assert.Less(t, time.Since(begun), time.Second)
					w.requireNotUploaded(b)
					assert.Less(t, w.reg.BytesReceived(), b.Size, "the last bytes are held back")
				})
			})
		}
	}
}

func TestU8Source(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"missing":   os.Remove,
		"directory": replacedBy(func(path string) error { return os.Mkdir(path, 0o755) }),
		"S7 link that leads nowhere": replacedBy(func(path string) error {
			return os.Symlink("nowhere", path)
		}),
		"S7 link to a directory":       replacedBy(func(path string) error { return os.Symlink(".", path) }),
		"S7 link that leads to itself": replacedBy(func(path string) error { return os.Symlink(path, path) }),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			good, b := w.local(3<<20), w.local(100)
			require.NoError(t, spoil(w.path(b)))
			err := w.upload(w.uploadOptions(good, b))
			var path *fs.PathError
			require.ErrorAs(t, err, &path)
			requireBlobError(t, err, b, "upload")
			if name == "missing" {
				require.ErrorIs(t, err, fs.ErrNotExist)
			}
			assert.Empty(t, w.reg.Requests(), "all files are looked at before the first request")
		})
	}
	t.Run("no directory", func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		opts := w.uploadOptions(w.local(100))
		opts.SrcDir += "/missing"
		require.ErrorIs(t, w.upload(opts), fs.ErrNotExist)
		opts.SrcDir = w.path(opts.Blobs[0])
		var path *fs.PathError
		require.ErrorAs(t, w.upload(opts), &path)
		assert.Empty(t, w.reg.Requests())
	})
}

// replacedBy returns a function that removes a file and has something else made in its place.
func replacedBy(other func(path string) error) func(path string) error {
	return func(path string) error { return errors.Join(os.Remove(path), other(path)) }
}

func TestU6U7SourceThatChangesWhileItIsSent(t *testing.T) {
	type fileChange func(path string) error
	cases := map[string]fileChange{
		"U7 other bytes": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("changed"), 9<<20)
			return errors.Join(err, f.Close())
		},
		"U6 shorter": func(path string) error { return os.Truncate(path, 8<<20) },
		"U6 longer":  func(path string) error { return os.Truncate(path, 11<<20) },
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, name string, change fileChange) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "slow(1M)")
		b := w.local(10 << 20)
		time.AfterFunc(2*time.Second, func() { assert.NoError(t, change(w.path(b))) })
		err := w.upload(w.uploadOptions(b))
		if strings.HasPrefix(name, "U7") {
			require.ErrorIs(t, err, transfer.ErrDigestMismatch)
		} else {
			require.ErrorIs(t, err, transfer.ErrSizeMismatch)
		}
		w.reg.Wait()
		_, there := w.reg.Blob(digest.Digest(b.Digest))
		assert.False(t, there)
		assert.Equal(t, 1, w.reg.Count("PUT", "/uploads/"))
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestUploadWhoseFileWasAnotherInAnEarlierCall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Sessions: registrytest.Sessions{StrictState: true}})
		b := w.local(largeSize)
		wrong := slices.Clone(w.data(b))
		wrong[0] ^= 1
		require.NoError(t, os.WriteFile(w.path(b), wrong, 0o644))
		w.interrupted(b)
		require.NoError(t, os.WriteFile(w.path(b), w.data(b), 0o644))
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestManifestMediaType(t *testing.T) {
	cases := map[string]string{
		`{"mediaType":"application/x+json"}`: "application/x+json",                      // as it says
		` {"manifests": [] }`:                "application/vnd.oci.image.index.v1+json", // as its shape tells
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, manifest, want string) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions()
		opts.SrcDir, opts.Manifest, opts.ManifestRef = "", []byte(manifest), "v1"
		require.NoError(t, w.upload(opts))
		require.Len(t, w.reg.Requests(), 1)
		assert.Equal(t, []string{want}, w.reg.Requests()[0].Header.Values("Content-Type"))
		got, _ := w.reg.Manifest(repository, "v1")
		assert.Equal(t, manifest, string(got), "byte for byte")
	})
}

func TestManifestByDigest(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			w := newWorld(t, mode, registrytest.Options{})
			opts := w.uploadOptions(w.local(10))
			opts.Manifest = []byte(`{"schemaVersion":2}`)
			opts.ManifestRef = algorithm.FromBytes(opts.Manifest).String()
			require.NoError(t, w.upload(opts))
			got, ok := w.reg.Manifest(repository, opts.ManifestRef)
			require.True(t, ok)
			assert.Equal(t, opts.Manifest, got)
		}
	})
}

func TestManifestReferencesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		ref  string
		want error
	}{
		"digest of another":  {digest.FromString("another").String(), transfer.ErrDigestMismatch},
		"no digest":          {"sha256:abc", transfer.ErrInvalidDigest},
		"unknown algorithm":  {"md5:d41d8cd98f00b204e9800998ecf8427e", transfer.ErrInvalidDigest},
		"tag with a slash":   {"../x", transfer.ErrInvalidOption},
		"tag with a query":   {"x?y", transfer.ErrInvalidOption},
		"tag with a dash":    {"-x", transfer.ErrInvalidOption},
		"tag that is long":   {strings.Repeat("x", 129), transfer.ErrInvalidOption},
		"tag with a percent": {"x%2fy", transfer.ErrInvalidOption},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			opts := w.uploadOptions(w.local(10))
			opts.Manifest, opts.ManifestRef = []byte(`{}`), c.ref
			require.ErrorIs(t, w.upload(opts), c.want)
			assert.Empty(t, w.reg.Requests())
		})
	}
}

// What is no manifest at all is refused before the first request. What an object has in it, the registry
// judges.
func TestManifestThatIsNone(t *testing.T) {
	for _, data := range []string{`hello`, `[]`, `null`, `"x"`, `{"schemaVersion":2`, `{} {}`, ` `} {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		opts := w.uploadOptions(w.local(10))
		opts.Manifest, opts.ManifestRef = []byte(data), "latest"
		require.ErrorIs(t, w.upload(opts), sentinel.ErrManifest, data)
		assert.Empty(t, w.reg.Requests(), data)
	}
}

func TestManifestIsOptional(t *testing.T) {
	cases := map[string]transfer.UploadOptions{
		"no manifest": {ManifestRef: "latest"}, "no reference": {Manifest: []byte(`{}`)}, "neither": {},
	}
	eachInBubbles(t, cases, func(
		t *testing.T, mode registrytest.Mode, _ string, given transfer.UploadOptions,
	) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(10))
		opts.Manifest, opts.ManifestRef = given.Manifest, given.ManifestRef
		require.NoError(t, w.upload(opts))
		assert.Zero(t, w.reg.Count("", "/manifests/"))
	})
}

func TestManifestThatTheRegistryMistakes(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/manifests/", "header(-docker-content-digest; docker-content-digest: "+
			digest.FromString("another").String()+")")
		opts := w.uploadOptions(w.local(10))
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		require.ErrorIs(t, w.upload(opts), transfer.ErrDigestMismatch)
		assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
	})
}

func TestManifestIsTriedAgain(t *testing.T) {
	cases := named("503", "2*500->reset", "stallheaders", "swallow", "429(retry-after: 3)", "reset(0)")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		fault := w.reg.Fault("PUT", "/manifests/", script)
		opts := w.uploadOptions(w.local(10))
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		begun := time.Now()
		require.NoError(t, w.upload(opts))
		assert.True(t, fault.Done())
		assert.Less(t, time.Since(begun), 15*time.Second)
		_, ok := w.reg.Manifest(repository, "latest")
		assert.True(t, ok)
	})
}

func TestManifestIsRefused(t *testing.T) {
	for _, code := range []int{400, 403, 404, 405, 413, 501} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				const said = `{"errors":[` +
					`{"code":"MANIFEST_INVALID","message":"too many legs"},{"code":"DENIED"}]}`
				w.reg.Fault("", "/manifests/", fmt.Sprintf("**says(%d, %s)", code, said))
				opts := w.uploadOptions(w.local(10))
				opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
				begun := time.Now()
				err := w.upload(opts)
				status := requireStatus(t, err, code)
				assert.Equal(t, []transfer.RegistryError{{Code: "MANIFEST_INVALID", Message: "too many legs"},
					{Code: "DENIED"}}, status.Errors)
				assert.ErrorContains(t, err, "too many legs")
				assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
				assert.Less(t, time.Since(begun), noBackoff)
				assert.True(t, w.reg.Has(repository, digest.Digest(opts.Blobs[0].Digest)), "the blobs stay")
			})
		})
	}
}

func TestU14ManifestOfABlobThatFailed(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		bad, good := w.local(3<<20), w.local(2<<20)
		w.reg.Fault("PUT", bad.Digest[len("sha256:"):], "**delay(500ms)+403")
		opts := w.uploadOptions(bad, good)
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		err := w.upload(opts)
		requireStatus(t, err, http.StatusForbidden)
		requireBlobError(t, err, bad, "upload")
		w.reg.Wait()
		assert.Zero(t, w.reg.Count("", "/manifests/"))
		assert.Zero(t, w.reg.Sessions())
		assert.True(t, w.reg.Has(repository, digest.Digest(good.Digest)), "what was finished stays")
	})
}

// U14: nor is it sent again when a blob that the registry lacks after all cannot be sent.
func TestU14ManifestOfABlobThatCannotBeSentAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
		b := w.local(3 << 20)
		w.reg.Fault("HEAD", b.Digest, fmt.Sprintf("200(content-length: %d)", b.Size))
		w.reg.Fault("PUT", "/uploads/", "**403")
		opts := w.uploadOptions(b)
		const manifest = `{"schemaVersion":2,"layers":[{"digest":%q,"size":%d}]}`
		opts.Manifest = fmt.Appendf(nil, manifest, b.Digest, b.Size)
		opts.ManifestRef = "latest"
		err := w.upload(opts)
		requireStatus(t, err, http.StatusForbidden)
		requireBlobError(t, err, b, "upload")
		assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
	})
}

// Its bytes are progress too.
func TestN7ManifestOnASlowLink(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/manifests/", "**slow(200K)")
		opts := w.uploadOptions()
		opts.SrcDir = ""
		opts.Manifest, opts.ManifestRef = fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 4<<20)), "latest"
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
	})
}

func TestManifestWithBlobsThatTheRegistryOnlySaidItHas(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
		b, other := w.local(1000), w.local(2000)
		w.reg.Fault("HEAD", b.Digest, fmt.Sprintf("200(content-length: %d)", b.Size))
		opts := w.uploadOptions(b, other)
		opts.Manifest = fmt.Appendf(nil,
			`{"schemaVersion":2,"layers":[{"digest":%q,"size":1000},{"digest":%q,"size":2000}]}`, b.Digest,
			other.Digest)
		opts.ManifestRef = "latest"
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 2, w.reg.Count("PUT", "/manifests/"))
		assert.Equal(t, 1, w.reg.Count("HEAD", b.Digest))
	})
}

func TestManifestWhoseBlobFailsWhenItIsSentAgain(t *testing.T) {
	cases := named("reset(1M)", "503")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
		b := w.local(3 << 20)
		w.reg.Fault("HEAD", b.Digest, fmt.Sprintf("**200(content-length: %d)", b.Size))
		fault := w.reg.Fault("PUT", "/uploads/", script)
		opts := w.uploadOptions(b)
		const manifest = `{"schemaVersion":2,"layers":[{"digest":%q,"size":%d}]}`
		opts.Manifest = fmt.Appendf(nil, manifest, b.Digest, b.Size)
		opts.ManifestRef = "latest"
		require.NoError(t, w.upload(opts))
		assert.True(t, fault.Done())
		assert.Equal(t, 2, w.reg.Count("PUT", "/manifests/"))
	})
}

// A registry that answers each HEAD with a bare 200 is believed, until it refuses the manifest for a blob.
func TestU28BelievedInVain(t *testing.T) {
	const unknown = `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"%s}]}`
	cases := map[string]func(b transfer.Blob) string{
		"named, one at a time": func(b transfer.Blob) string {
			return fmt.Sprintf(unknown, fmt.Sprintf(`,"detail":{"Digest":%q}`, b.Digest))
		},
		"not named": func(transfer.Blob) string { return fmt.Sprintf(unknown, "") },
	}
	eachInBubbles(t, cases, func(
		t *testing.T, mode registrytest.Mode, _ string, says func(transfer.Blob) string,
	) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions()
		for _, size := range []int{1000, 3 << 20, 10 << 20} {
			opts.Blobs = append(opts.Blobs, w.local(size))
		}
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					_ = http.NewResponseController(rw).Flush()
					return true
				}
				for _, b := range opts.Blobs {
					there := w.reg.Has(repository, digest.Digest(b.Digest))
					if strings.Contains(r.URL.Path, "/manifests/") && !there {
						rw.WriteHeader(http.StatusBadRequest)
						_, _ = rw.Write([]byte(says(b)))
						return true
					}
				}
				return false
			}
		})
		opts.Manifest, opts.ManifestRef = []byte(`{"schemaVersion":2}`), "latest"
		require.NoError(t, w.upload(opts))
		_, pushed := w.reg.Manifest(repository, "latest")
		assert.True(t, pushed)
	})
}

// What is sent again is sent once: a registry that lacks it all the same is the one at fault.
func TestU28ManifestThatIsRefusedForEver(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/manifests/", `**says(400, {"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]})`)
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				bare := r.Method == http.MethodHead
				if bare {
					_ = http.NewResponseController(rw).Flush()
				}
				return bare
			}
		})
		opts := w.uploadOptions(w.local(1000), w.local(3<<20))
		opts.Manifest, opts.ManifestRef = []byte(`{"schemaVersion":2}`), "latest"
		requireStatus(t, w.upload(opts), http.StatusBadRequest)
		assert.Equal(t, 2, w.reg.Count("PUT", "/manifests/"))
	})
}
