package transfer_test

import (
	"context"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// refuse makes the same call in both directions, and checks that it fails before anything
// is asked or touched.
func refuse(t *testing.T, want error, change func(d *transfer.DownloadOptions)) error {
	t.Helper()
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	down := w.downloadOptions(w.make(10))
	down.DestDir += "/new"
	change(&down)
	up := w.uploadOptions(down.Blobs...)
	up.BaseURL, up.Repository, up.StallTimeout = down.BaseURL, down.Repository, down.StallTimeout
	up.RetryTimeout, up.MaxBytesPerSecond = down.RetryTimeout, down.MaxBytesPerSecond
	up.SrcDir += "/missing"

	assert.ErrorIs(t, transfer.Download(t.Context(), down), want, "download")
	err := transfer.Upload(t.Context(), up)
	assert.ErrorIs(t, err, want, "upload")
	assert.Empty(t, w.reg.Requests())
	assert.Empty(t, w.progress.calls)
	left, errDir := os.ReadDir(w.dir)
	require.NoError(t, errDir)
	assert.Empty(t, left)
	return err
}

func TestI1I2I3I4Digests(t *testing.T) {
	hex := strings.Repeat("0a", 32)
	for name, dg := range map[string]string{
		"I1 path":              "sha256:../../etc/passwd",
		"I1 path of the size":  "sha256:" + strings.Repeat("../", 21) + "x",
		"I1 slash":             "sha256:" + hex[:63] + "/",
		"I1 backslash":         "sha256:" + hex[:63] + `\`,
		"I1 NUL":               "sha256:" + hex[:63] + "\x00",
		"I1 line feed":         "sha256:" + hex + "\n",
		"I2 upper case":        "sha256:" + strings.ToUpper(hex),
		"I3 short":             "sha256:" + hex[:62],
		"I3 long":              "sha256:" + hex + "0a",
		"I3 no hex":            "sha256:",
		"I3 no colon":          hex,
		"I3 dash":              "sha256-" + hex,
		"I3 empty":             "",
		"I4 unknown algorithm": "md5:" + hex[:32],
		"I4 made up":           "sha257:" + hex,
		"I4 no algorithm":      ":" + hex,
	} {
		t.Run(name, func(t *testing.T) {
			refuse(t, transfer.ErrInvalidDigest, func(o *transfer.DownloadOptions) {
				o.Blobs = append(o.Blobs, transfer.Blob{Digest: dg, Size: 10})
			})
		})
	}
}

func TestI5I7S13Blobs(t *testing.T) {
	one, other := digest.FromString("one").String(), digest.FromString("other").String()
	for name, c := range map[string]struct {
		says  string
		blobs []transfer.Blob
	}{
		"I5 negative size":      {"negative", []transfer.Blob{{Digest: one, Size: -1}}},
		"I5 the least size":     {"negative", []transfer.Blob{{Digest: one, Size: math.MinInt64}}},
		"I5 after a good blob":  {"negative", []transfer.Blob{{Digest: other, Size: 1}, {Digest: one, Size: -1}}},
		"I7 sum overflows":      {"add up", []transfer.Blob{{Digest: one, Size: math.MaxInt64}, {Digest: other, Size: 1}}},
		"S13 with other sizes":  {"sizes 1 and 2", []transfer.Blob{{Digest: one, Size: 1}, {Digest: one, Size: 2}}},
		"From outside":          {"From", []transfer.Blob{{Digest: one, Size: 1, From: "../other"}}},
		"From with a query":     {"From", []transfer.Blob{{Digest: one, Size: 1, From: "other?x"}}},
		"From of a second blob": {"From", []transfer.Blob{{Digest: other, Size: 1}, {Digest: one, Size: 1, From: "a//b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			err := refuse(t, transfer.ErrInvalidBlob, func(o *transfer.DownloadOptions) { o.Blobs = c.blobs })
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestI6EmptyBlob(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(0)
		require.NoError(t, w.upload(w.uploadOptions(b)))

		wrong := transfer.Blob{Digest: digest.FromString("not empty").String(), Size: 0}
		require.NoError(t, os.WriteFile(w.path(wrong), nil, 0o644))
		require.ErrorIs(t, w.upload(w.uploadOptions(wrong)), transfer.ErrDigestMismatch)
		_, there := w.reg.Blob(digest.Digest(wrong.Digest))
		assert.False(t, there)
	})
}

func TestI9NilContext(t *testing.T) {
	var none context.Context
	assert.ErrorIs(t, transfer.Download(none, transfer.DownloadOptions{}), transfer.ErrInvalidOption)
	assert.ErrorIs(t, transfer.Upload(none, transfer.UploadOptions{}), transfer.ErrInvalidOption)
}

func TestI10BaseURL(t *testing.T) {
	for _, base := range []string{
		"", "registry.test", "registry.test:443", "//registry.test", "http://", "http:///v2", "https://:443", "http://[::1", "http:registry.test",
		"ftp://registry.test", "file:///etc", "http://user:geheim@registry.test", "http://registry.test?x=geheim", "http://registry.test?",
		"http://registry.test/#geheim", "http://registry.test/%zz", "http://registry.test\n",
	} {
		t.Run(base, func(t *testing.T) {
			refuse(t, transfer.ErrInvalidOption, func(o *transfer.DownloadOptions) { o.BaseURL = base })
			err := transfer.Upload(t.Context(), transfer.UploadOptions{BaseURL: base})
			assert.NotContains(t, err.Error(), "geheim")
		})
	}
}

func TestI10SlashAtTheEndIsTrimmed(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(10))
		opts.BaseURL += "/"
		require.NoError(t, w.upload(opts))
		w.reg.Wait()
		for _, r := range w.reg.Requests() {
			assert.NotContains(t, r.Path, "//")
		}
	})
}

func TestI11Repository(t *testing.T) {
	for _, name := range []string{
		"..", "a/../b", ".", "a/./b", "/a", "a/", "a//b", "/", `a\b`, "a%2fb", "a?b", "a#b", "a b", "a\x00b", "a\nb", "a:b", "a@b", "ä",
		strings.Repeat("a", 2000),
	} {
		t.Run(name[:min(len(name), 20)], func(t *testing.T) {
			refuse(t, transfer.ErrInvalidOption, func(o *transfer.DownloadOptions) { o.Repository = name })
		})
	}
}

func TestI11RepositoriesOfTheField(t *testing.T) {
	for given, asked := range map[string]string{
		"": "library/_", "model": "model", "Library/Llama-3.1_8B": "Library/Llama-3.1_8B", "a/b/c/d": "a/b/c/d", "a__b/c--d": "a__b/c--d",
	} {
		t.Run(given, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			opts := w.uploadOptions(w.local(10))
			opts.Repository = given
			require.NoError(t, w.upload(opts))
			assert.True(t, w.reg.Has(asked, digest.Digest(opts.Blobs[0].Digest)))
		})
	}
}

func TestNegativeLimits(t *testing.T) {
	for name, change := range map[string]func(o *transfer.DownloadOptions){
		"StallTimeout":      func(o *transfer.DownloadOptions) { o.StallTimeout = -1 },
		"RetryTimeout":      func(o *transfer.DownloadOptions) { o.RetryTimeout = -1 },
		"MaxBytesPerSecond": func(o *transfer.DownloadOptions) { o.MaxBytesPerSecond = -1 },
	} {
		t.Run(name, func(t *testing.T) { refuse(t, transfer.ErrInvalidOption, change) })
	}
}

func TestI8ManyBlobsFewGoroutines(t *testing.T) {
	const count, concurrency = 1500, 4
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	var blobs []transfer.Blob
	for i := range count {
		// All are in the registry, so that what is in the files does not matter.
		dg := digest.FromBytes([]byte{byte(i), byte(i >> 8)})
		w.reg.Replace(repository, dg, []byte{1})
		blobs = append(blobs, transfer.Blob{Digest: dg.String(), Size: 1})
		require.NoError(t, os.WriteFile(w.path(blobs[i]), []byte{1}, 0o644))
	}
	var mu sync.Mutex
	most, before := 0, runtime.NumGoroutine() // what tests before have left is still ending
	w.reg.Configure(func(o *registrytest.Options) {
		o.Before = func(http.ResponseWriter, *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, runtime.NumGoroutine())
			return false
		}
	})
	opts := w.uploadOptions(blobs...)
	opts.Concurrency = concurrency
	// Else the transport dials more than it needs whenever a dial takes longer than a request.
	w.client.Transport.(*http.Transport).MaxConnsPerHost = 3 * concurrency
	require.NoError(t, transfer.Upload(t.Context(), opts))
	mu.Lock()
	defer mu.Unlock()
	assert.Less(t, most-before, 200)
	assert.Equal(t, [2]int64{count, count}, w.progress.calls[len(w.progress.calls)-1])
}

func TestI19Concurrency(t *testing.T) {
	for _, n := range []int{-1, math.MinInt, 0, 1, 1 << 40} {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{})
			var blobs []transfer.Blob
			for i := range 40 {
				blobs = append(blobs, w.local(100+i))
			}
			opts := w.uploadOptions(blobs...)
			opts.Concurrency, opts.BodyConcurrency = n, n
			require.NoError(t, w.upload(opts))
		})
	}
}

func TestI19BodiesAreBounded(t *testing.T) {
	for name, opts := range map[string]transfer.UploadOptions{
		"Concurrency":     {Concurrency: 3},
		"BodyConcurrency": {Concurrency: 20, BodyConcurrency: 3},
		"the lower one":   {Concurrency: 3, BodyConcurrency: 20},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault("PUT", "/uploads/", "**slow(1M)")
				var blobs []transfer.Blob
				for i := range 12 {
					blobs = append(blobs, w.local(2<<20+i))
				}
				bounds := opts
				opts := w.uploadOptions(blobs...)
				opts.Concurrency, opts.BodyConcurrency = bounds.Concurrency, bounds.BodyConcurrency
				begun := time.Now()
				require.NoError(t, w.upload(opts))
				w.reg.Wait()
				assert.Greater(t, w.reg.MaxInFlight(), 1)
				// A body that was handed over leaves room for the next one, while its last bytes are on the way.
				assert.LessOrEqual(t, w.reg.MaxInFlight(), 2*3)
				assert.Greater(t, time.Since(begun), 4*time.Second, "24 MiB, at most 6 MiB/s")
			})
		})
	}
}

func TestU8Source(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"missing":   os.Remove,
		"directory": func(path string) error { _ = os.Remove(path); return os.Mkdir(path, 0o755) },
		"symlink": func(path string) error {
			if err := os.Rename(path, path+".real"); err != nil {
				return err
			}
			return os.Symlink(path+".real", path)
		},
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

// requireBlobError checks that an error names the blob and what was being done.
func requireBlobError(t *testing.T, err error, b transfer.Blob, op string) *transfer.BlobError {
	t.Helper()
	var blob *transfer.BlobError
	require.ErrorAs(t, err, &blob)
	require.Equal(t, b.Digest, blob.Digest)
	require.Equal(t, op, blob.Op)
	require.Contains(t, err.Error(), b.Digest)
	return blob
}

// logBook keeps all that was logged.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestLoggerGetsWhatHappens(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "new"})
		cdn := w.net.Serve("cdn.test", w.reg.CDN(), mode).URL
		w.reg.Configure(func(o *registrytest.Options) { o.Redirect = registrytest.To(cdn) })
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "503->ok")
		var book logBook
		opts := w.downloadOptions(b)
		opts.Logger = book.logger()
		opts.GetToken = func(context.Context, transfer.AuthChallenge) (string, error) { return "new", nil }
		require.NoError(t, w.download(opts))
		told := book.String()
		for _, part := range []string{
			`level=DEBUG msg="download planned" blobs=1 missing=1`,
			`level=DEBUG msg=answer method=GET url=` + w.server.URL + "/v2/library/model/blobs/" + b.Digest + " status=503",
			`level=WARN msg="attempt failed, trying again" digest=` + b.Digest + " attempt=1 wait=",
			`level=DEBUG msg="token refused, asking for a new one"`,
			`level=DEBUG msg=answer method=GET url="` + cdn,
			`level=DEBUG msg="registry redirects" host=cdn.test`,
			`level=DEBUG msg="blob in place" digest=` + b.Digest + " size=1000",
			`level=DEBUG msg="download ended" blobs=1 completed=1000 total=1000`,
		} {
			assert.Contains(t, told, part)
		}
	})
}

func TestHeadersThatCannotBeSent(t *testing.T) {
	for name, change := range map[string]func(*transfer.UploadOptions){
		"token": func(o *transfer.UploadOptions) { o.Token = "secret\n" },
		"agent": func(o *transfer.UploadOptions) { o.UserAgent = "a\nb" },
		"new token": func(o *transfer.UploadOptions) {
			o.GetToken = (&issuer{give: func(context.Context, int) (string, error) { return "secret\n", nil }}).getToken
		},
		"manifest": func(o *transfer.UploadOptions) { o.Manifest = []byte(`{"mediaType":"a\nb"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				if name == "new token" {
					w.reg.Fault("HEAD", "", "**401")
				}
				opts := w.uploadOptions(w.local(100))
				opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
				change(&opts)
				begun := time.Now()
				err := w.upload(opts)
				require.Error(t, err)
				assert.NotContains(t, err.Error(), "secret")
				assert.NotErrorIs(t, err, transfer.ErrRetriesExhausted)
				assert.Less(t, time.Since(begun), noBackoff)
			})
		})
	}
}
