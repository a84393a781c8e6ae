package transfer_test

import (
	"math"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

const someHex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

// What exists in the field passes.
func TestI10I11DownloadAccepts(t *testing.T) {
	for _, c := range []struct{ suffix, repository, path string }{
		{"/", repository, "/v2/library/model/blobs/"},
		{"///", "Mixed/Case.Name-1_2", "/v2/Mixed/Case.Name-1_2/blobs/"},
		{"", "", "/v2/library/_/blobs/"},
	} {
		t.Run(c.path, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.remote(10)
			w.reg.Put(strings.Split(c.path, "/blobs/")[0][len("/v2/"):], w.data(b))
			opts := w.downloadOptions(b)
			opts.BaseURL += c.suffix
			opts.Repository = c.repository
			require.NoError(t, w.download(opts))
			assert.Equal(t, c.path+b.Digest, w.reg.Requests()[0].Path)
		})
	}
}

// refuse makes the same call in both directions. It checks that the error is want and says that, without the
// secret "geheim", and that nothing is asked or touched before.
func refuse(t *testing.T, want error, says string, change func(d *transfer.DownloadOptions)) {
	t.Helper()
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	down := w.downloadOptions(w.make(10))
	down.DestDir += "/new"
	change(&down)
	up := w.uploadOptions(down.Blobs...)
	up.BaseURL, up.Repository, up.StallTimeout = down.BaseURL, down.Repository, down.StallTimeout
	up.RetryTimeout, up.MaxBytesPerSecond = down.RetryTimeout, down.MaxBytesPerSecond
	up.SrcDir += "/missing"

	for direction, err := range map[string]error{
		"download": transfer.Download(t.Context(), down), "upload": transfer.Upload(t.Context(), up),
	} {
		require.ErrorIs(t, err, want, direction)
		assert.ErrorContains(t, err, says, direction)
		assert.NotContains(t, err.Error(), "geheim", direction)
	}
	assert.Empty(t, w.reg.Requests())
	assert.Empty(t, w.progress.calls)
	left, err := os.ReadDir(w.dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestI1I2I3I4Digests(t *testing.T) {
	hex := strings.Repeat("0a", 32)
	for name, dg := range map[string]string{
		"I1 path":              "sha256:../../etc/passwd",
		"I1 path of the size":  "sha256:" + strings.Repeat("../", 21) + "x",
		"I1 climbing":          "sha256:../../" + hex[:58],
		"I1 absolute":          "sha256:/" + hex[:63],
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
			refuse(t, transfer.ErrInvalidDigest, "", func(o *transfer.DownloadOptions) {
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
		"I5 negative size":     {"negative", []transfer.Blob{{Digest: one, Size: -1}}},
		"I5 the least size":    {"negative", []transfer.Blob{{Digest: one, Size: math.MinInt64}}},
		"I5 after a good blob": {"negative", []transfer.Blob{{Digest: other, Size: 1}, {Digest: one, Size: -1}}},
		"I7 sum overflows": {"add up", []transfer.Blob{{Digest: one, Size: math.MaxInt64},
			{Digest: other, Size: 1}}},
		"S13 with other sizes": {"sizes 1 and 2", []transfer.Blob{{Digest: one, Size: 1}, {Digest: one, Size: 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			refuse(t, transfer.ErrInvalidBlob, c.says, func(o *transfer.DownloadOptions) { o.Blobs = c.blobs })
		})
	}
}

// U24: what no blob can be mounted from is not mounted from, and never an error.
func TestU24UnusableFrom(t *testing.T) {
	for _, from := range []string{"../other", "other?x", "a//b", "other.test/a/b:latest", ":", "@", "a\nb"} {
		t.Run(from, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.local(100)
			b.From = from
			require.NoError(t, w.upload(w.uploadOptions(b)))
			assert.True(t, w.reg.Has(repository, digest.Digest(b.Digest)))
			for _, r := range w.reg.Requests() {
				assert.NotContains(t, r.RawQuery, "from=")
			}
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

func TestI10BaseURL(t *testing.T) {
	for _, base := range []string{
		"", "registry.test", "registry.test:443", "//registry.test", "http://", "http:///v2", "https://:443",
		"http://[::1", "http:registry.test",
		"ftp://registry.test", "file:///etc", "http://user:geheim@registry.test", "http://registry.test?x=geheim",
		"http://registry.test?",
		"http://registry.test/#geheim", "http://registry.test/%zz", "http://registry.test\n",
	} {
		t.Run(base, func(t *testing.T) {
			refuse(t, transfer.ErrInvalidOption, "base URL", func(o *transfer.DownloadOptions) { o.BaseURL = base })
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
		"..", "a/../b", ".", "a/./b", "/a", "a/", "a//b", "/", `a\b`, "a%2fb", "a?b", "a#b", "a b", "a\x00b",
		"a\nb", "a\rb", "a:b", "a@b", "ä",
		strings.Repeat("a", 2000),
	} {
		t.Run(name[:min(len(name), 20)], func(t *testing.T) {
			refuse(t, transfer.ErrInvalidOption, "repository",
				func(o *transfer.DownloadOptions) { o.Repository = name })
		})
	}
}

func TestI11RepositoriesOfTheField(t *testing.T) {
	for given, asked := range map[string]string{
		"": "library/_", "model": "model", "Library/Llama-3.1_8B": "Library/Llama-3.1_8B", "a/b/c/d": "a/b/c/d",
		"a__b/c--d": "a__b/c--d",
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
		t.Run(name, func(t *testing.T) { refuse(t, transfer.ErrInvalidOption, "negative", change) })
	}
}

func TestMirrorThatIsNoBaseURL(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	opts := w.downloadOptions(w.remote(10))
	opts.Mirrors = []string{"http://fine.test", "nowhere"}
	err := w.download(opts)
	require.ErrorIs(t, err, transfer.ErrInvalidOption)
	assert.ErrorContains(t, err, "mirror")
	assert.Empty(t, w.reg.Requests())
	w.requireOnly()
}
