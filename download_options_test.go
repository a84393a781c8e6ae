package transfer_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

const someHex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

// I1 to I11: what no request can be made of is refused before anything is touched (I2).
func TestDownloadRefuses(t *testing.T) {
	blob := func(digest string, size int64) func(*transfer.DownloadOptions) {
		return func(o *transfer.DownloadOptions) {
			o.Blobs = append(o.Blobs, transfer.Blob{Digest: digest, Size: size})
		}
	}
	base := func(url string) func(*transfer.DownloadOptions) {
		return func(o *transfer.DownloadOptions) { o.BaseURL = url }
	}
	repo := func(name string) func(*transfer.DownloadOptions) {
		return func(o *transfer.DownloadOptions) { o.Repository = name }
	}
	for _, c := range []struct {
		name   string
		change func(*transfer.DownloadOptions)
		is     error
	}{
		{"I1 climbing", blob("sha256:../../"+someHex[:58], 1), transfer.ErrInvalidDigest},
		{"I1 absolute", blob("sha256:/"+someHex[:63], 1), transfer.ErrInvalidDigest},
		{"I1 backslash", blob(`sha256:..\..\`+someHex[:58], 1), transfer.ErrInvalidDigest},
		{"I1 NUL", blob("sha256:"+someHex[:63]+"\x00", 1), transfer.ErrInvalidDigest},
		{"I1 line end", blob("sha256:"+someHex+"\n", 1), transfer.ErrInvalidDigest},
		{"I2 upper case", blob("sha256:"+strings.ToUpper(someHex), 1), transfer.ErrInvalidDigest},
		{"I3 short", blob("sha256:"+someHex[:63], 1), transfer.ErrInvalidDigest},
		{"I3 long", blob("sha256:"+someHex+"0", 1), transfer.ErrInvalidDigest},
		{"I3 no colon", blob(someHex, 1), transfer.ErrInvalidDigest},
		{"I3 a file name", blob("sha256-"+someHex, 1), transfer.ErrInvalidDigest},
		{"I3 empty", blob("", 1), transfer.ErrInvalidDigest},
		{"I4 weak algorithm", blob("md5:d41d8cd98f00b204e9800998ecf8427e", 1), transfer.ErrInvalidDigest},
		{"I4 unknown algorithm", blob("sha999:"+someHex, 1), transfer.ErrInvalidDigest},
		{"I5 negative size", blob("sha256:"+someHex, -1), transfer.ErrInvalidBlob},
		{"S13 two sizes", func(o *transfer.DownloadOptions) {
			o.Blobs = append(o.Blobs, transfer.Blob{Digest: o.Blobs[0].Digest, Size: o.Blobs[0].Size + 1})
		}, transfer.ErrInvalidBlob},
		{"I7 too much", blob("sha256:"+someHex, math.MaxInt64), transfer.ErrInvalidBlob},
		{"I10 no base URL", base(""), transfer.ErrInvalidOption},
		{"I10 no scheme", base("registry.test"), transfer.ErrInvalidOption},
		{"I10 other scheme", base("ftp://registry.test"), transfer.ErrInvalidOption},
		{"I10 no host", base("http://"), transfer.ErrInvalidOption},
		{"I10 malformed host", base("http://[::1"), transfer.ErrInvalidOption},
		{"I10 user", base("http://user:secret@registry.test"), transfer.ErrInvalidOption},
		{"I10 query", base("http://registry.test?token=secret"), transfer.ErrInvalidOption},
		{"I11 climbing", repo("library/../model"), transfer.ErrInvalidOption},
		{"I11 empty segment", repo("library//model"), transfer.ErrInvalidOption},
		{"I11 slash at the end", repo("library/"), transfer.ErrInvalidOption},
		{"I11 backslash", repo(`library\model`), transfer.ErrInvalidOption},
		{"I11 escape", repo("library/%2e%2e"), transfer.ErrInvalidOption},
		{"I11 query", repo("library/model?x"), transfer.ErrInvalidOption},
		{"I11 fragment", repo("library/model#x"), transfer.ErrInvalidOption},
		{"I11 control", repo("library/mo\rdel"), transfer.ErrInvalidOption},
		{"mirror", func(o *transfer.DownloadOptions) { o.Mirrors = []string{"http://fine.test", "nowhere"} }, transfer.ErrInvalidOption},
		{"StallTimeout", func(o *transfer.DownloadOptions) { o.StallTimeout = -1 }, transfer.ErrInvalidOption},
		{"RetryTimeout", func(o *transfer.DownloadOptions) { o.RetryTimeout = -1 }, transfer.ErrInvalidOption},
		{"MaxBytesPerSecond", func(o *transfer.DownloadOptions) { o.MaxBytesPerSecond = -1 }, transfer.ErrInvalidOption},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			opts := w.downloadOptions(w.remote(10))
			opts.DestDir = filepath.Join(w.dir, "new")
			c.change(&opts)
			err := transfer.Download(t.Context(), opts)
			require.ErrorIs(t, err, c.is)
			assert.NotContains(t, err.Error(), "secret")
			assert.Empty(t, w.reg.Requests())
			assert.NoDirExists(t, opts.DestDir)
			assert.Empty(t, w.progress.calls)
		})
	}
}

func TestI6EmptyBlobIsFetched(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		empty := w.remote(0)
		require.NoError(t, w.download(w.downloadOptions(empty)))
		w.requireOnly(empty)

		wrong := transfer.Blob{Digest: "sha256:" + someHex}
		w.progress = &progressLog{}
		require.ErrorIs(t, w.download(w.downloadOptions(wrong)), transfer.ErrDigestMismatch)
		w.requireNothing(wrong)
	})
}

func TestI9DownloadWithoutContext(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	var none context.Context
	require.ErrorIs(t, transfer.Download(none, w.downloadOptions(w.remote(10))), transfer.ErrInvalidOption)
	assert.Empty(t, w.reg.Requests())
}

// I10 and I11: what exists in the field passes.
func TestDownloadAccepts(t *testing.T) {
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

func TestS13ListedTwice(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", "", "slow(1M)")
		require.NoError(t, w.download(w.downloadOptions(b, b, b)))
		assert.Equal(t, 1, w.gets(b))
		assert.Equal(t, [2]int64{mebibyte, mebibyte}, w.progress.calls[len(w.progress.calls)-1], "counted once")
	})
}

// I13: of an error body no more is read than tells something.
func TestI13DownloadErrorBodies(t *testing.T) {
	for script, want := range map[string]int{
		"**404+errorbody(endless)": 404, "**403+errorbody(1G)": 403, "503+errorbody(endless)": 0, "**404+errorbody(0)": 404,
	} {
		t.Run(script, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, script)
				took, err := w.timed(w.downloadOptions(b))
				if want == 0 {
					require.NoError(t, err)
				} else {
					status := w.requireStatus(err, b, want)
					assert.Empty(t, status.Errors)
					assert.Less(t, len(err.Error()), 1000)
				}
				assert.Less(t, took, time.Second)
				assert.Less(t, w.reg.BytesSent(), int64(6*mebibyte), "64 KiB and what the connection buffers")
			})
		})
	}
}

// I13: an answer says what it says, though its body never comes.
func TestI13ErrorBodyThatStalls(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "**404+errorbody(100)+stall(10)")
		took, err := w.timed(w.downloadOptions(b))
		w.requireStatus(err, b, http.StatusNotFound)
		assert.Equal(t, 1, w.gets(b))
		assert.LessOrEqual(t, took, 11*time.Second)
	})
}

func TestI14HeaderBomb(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	b := transfer.Blob{Digest: reg.Put(repository, []byte("content")).String(), Size: 7}
	server := registrytest.Serve(t, reg, registrytest.H1)
	opts := transfer.DownloadOptions{Blobs: []transfer.Blob{b}, BaseURL: server.URL, DestDir: t.TempDir(), Repository: repository}
	reg.Fault("GET", "", "**headerbomb(2M)")
	require.ErrorContains(t, transfer.Download(t.Context(), opts), "headers exceeded")
	assert.Equal(t, 1, reg.Count("GET", ""))
}

func TestI14HeaderBombAtTheCallersClient(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.client.Transport.(*http.Transport).MaxResponseHeaderBytes = 64 << 10
		w.reg.Fault("GET", "", "**headerbomb(300K)")
		took, err := w.timed(w.downloadOptions(b))
		require.Error(t, err)
		if mode == registrytest.H2 { // net/http does not tell it from a broken connection there
			assert.Equal(t, 6, w.gets(b))
		} else {
			assert.Equal(t, 1, w.gets(b))
			assert.Less(t, took, noBackoff)
		}
		w.requireNothing(b)
	})
}

// I15: whatever goes wrong, no token and no signature is told.
func TestI15DownloadTellsNoSecrets(t *testing.T) {
	for _, script := range []string{
		"**403", "503->stall(10)->**404", "**redirect(https://user:signed@elsewhere.test/?sig=signed)", "**302(location: /x?sig=signed)", "flip(1)",
	} {
		t.Run(script, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				var logged strings.Builder
				w, cdn := redirecting(t, mode, "cdn.test")
				b := w.remote(1000)
				cdn.Fault("GET", b.Digest, script)
				opts := w.withToken(w.downloadOptions(b))
				opts.Mirrors = []string{strings.Replace(w.server.URL, "registry.test", "down.test", 1)}
				opts.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
				err := w.download(opts)
				told := logged.String() + fmt.Sprintf("%v %+v", err, err)
				assert.Contains(t, told, b.Digest)
				assert.NotContains(t, told, "signed")
				assert.NotContains(t, told, "secret")
			})
		})
	}
}

func TestI19DownloadConcurrency(t *testing.T) {
	for _, n := range []int{-1, math.MinInt, 1, 100_000, math.MaxInt} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				opts := w.downloadOptions(w.remote(1000), w.remote(2000), w.remote(3000))
				opts.Concurrency, opts.BodyConcurrency = n, n
				require.NoError(t, w.download(opts))
			})
		})
	}
}

// I20: the caller's client is not changed; neither its Timeout nor its redirect policy is used.
func TestI20DownloadCopiesTheClient(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		w.client.Timeout = time.Second
		w.client.CheckRedirect = func(*http.Request, []*http.Request) error {
			t.Error("the caller's redirect policy was asked")
			return nil
		}
		b := w.remote(1000)
		cdn.Fault("GET", b.Digest, "slow(100)")
		before := *w.client
		took, err := w.timed(w.withToken(w.downloadOptions(b)))
		require.NoError(t, err)
		assert.Greater(t, took, 9*time.Second)
		assert.Equal(t, before.Timeout, w.client.Timeout)
		assert.Same(t, before.Transport, w.client.Transport)
		assert.NotNil(t, w.client.CheckRedirect)
		assert.Nil(t, w.client.Jar)
	})
}

func TestI20ClientWithoutTransport(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	b := transfer.Blob{Digest: reg.Put(repository, []byte("content")).String(), Size: 7}
	server := registrytest.Serve(t, reg, registrytest.H1)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	opts := transfer.DownloadOptions{
		Blobs: []transfer.Blob{b}, BaseURL: server.URL, DestDir: t.TempDir(), Repository: repository, Client: &http.Client{}, UserAgent: "own/1.0",
	}
	require.NoError(t, transfer.Download(t.Context(), opts))
	assert.Equal(t, "own/1.0", reg.Requests()[0].Header.Get("User-Agent"))
	entries, err := os.ReadDir(opts.DestDir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// Small blobs move beside the pieces of a large one, and not after them, when nothing fills the link while they are waited for.
func TestDownloadOfSmallBlobsBesideALargeOne(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Latency: 50 * time.Millisecond})
		large := w.remote(72 << 20) // nine pieces, a second for each
		w.reg.Fault("GET", large.Digest, "**slow(8M)")
		blobs := []transfer.Blob{large}
		for i := range 40 {
			blobs = append(blobs, w.remote(1000+i))
		}
		opts := w.downloadOptions(blobs...)
		opts.Concurrency = 9
		begun, early := time.Now(), 0
		opts.Progress = func(int64, int64) {
			if time.Since(begun) < time.Second {
				early = len(w.reg.Requests()) - w.reg.Count("GET", large.Digest)
			}
		}
		require.NoError(t, w.download(opts))
		assert.Equal(t, 40, early, "small blobs that were asked for before a piece was complete")
	})
}

// An idle worker takes no tail as long as it could not move it: what was on its way would come twice, and nothing sooner.
func TestDownloadTakesNoTailWithoutRoom(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("GET", "", "**slow(1M)")
		var blobs []transfer.Blob
		for i := range 4 {
			blobs = append(blobs, w.remote(8<<20+i))
		}
		opts := w.downloadOptions(blobs...)
		opts.BodyConcurrency = 4
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.Len(t, w.reg.Requests(), 4)
		assert.Equal(t, w.progress.calls[0][1], w.reg.BytesSent())
	})
}
