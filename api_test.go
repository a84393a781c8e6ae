package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// getToken is the type of the field GetToken.
type getToken = func(context.Context, transfer.AuthChallenge) (string, error)

// The exported names that programs are written against. That this compiles is half of the test.
var (
	_ func(context.Context, transfer.DownloadOptions) error = transfer.Download
	_ func(context.Context, transfer.UploadOptions) error   = transfer.Upload

	_ error                         = (*transfer.StatusError)(nil)
	_ interface{ Temporary() bool } = (*transfer.StatusError)(nil)
	_ interface{ Advice() string }  = (*transfer.StatusError)(nil)
	_ error                         = (*transfer.BlobError)(nil)
	_ interface{ Unwrap() error }   = (*transfer.BlobError)(nil)
)

// Options that name what programs name.
func TestAPIOptionsByName(t *testing.T) {
	token := func(context.Context, transfer.AuthChallenge) (string, error) { return "", nil }
	progress := func(completed, total int64) {}
	blob := transfer.Blob{Digest: "sha256:x", Size: 1, From: "library/other"}
	down := transfer.DownloadOptions{
		Blobs: []transfer.Blob{blob}, BaseURL: "x", DestDir: "x", Repository: "x", Concurrency: 1,
		Progress: progress, Client: http.DefaultClient, Token: "x", GetToken: token, Logger: slog.Default(),
		UserAgent:    "x",
		StallTimeout: 1, BodyConcurrency: 1, RetryTimeout: 1, MaxBytesPerSecond: 1, Verify: true,
		Mirrors: []string{"x"}, Trace: &transfer.Trace{}, Reuse: []string{"x"},
		Limiter: transfer.NewLimiter(1),
	}
	up := transfer.UploadOptions{
		Blobs: []transfer.Blob{blob}, BaseURL: "x", SrcDir: "x", Concurrency: 1, Progress: progress,
		Client: http.DefaultClient, Token: "x", GetToken: token, Logger: slog.Default(), UserAgent: "x",
		Manifest: []byte("x"), ManifestRef: "x", Repository: "x",
		BodyConcurrency: 1, StallTimeout: 1, RetryTimeout: 1, MaxBytesPerSecond: 1,
		Trace: &transfer.Trace{}, Limiter: transfer.NewLimiter(1),
	}
	for _, options := range []any{down, up} {
		for f, v := range reflect.ValueOf(options).Fields() {
			assert.False(t, v.IsZero(), "%T has a field %s that is not used here", options, f.Name)
		}
	}
	assert.Equal(t, 64, transfer.DefaultDownloadConcurrency)
	assert.Equal(t, 32, transfer.DefaultUploadConcurrency)
}

// field is a field of a struct.
type field struct {
	name string
	kind reflect.Type
}

func of[T any](name string) field { return field{name, reflect.TypeFor[T]()} }

// Programs may leave the names of fields away, so those that were there first keep their order, and what is
// added comes after them.
func TestAPIFieldsKeepTheirOrder(t *testing.T) {
	for _, c := range []struct {
		of   reflect.Type
		want []field
	}{
		{reflect.TypeFor[transfer.Blob](), []field{
			of[string]("Digest"), of[int64]("Size"), of[string]("From"),
		}},
		{reflect.TypeFor[transfer.AuthChallenge](), []field{
			of[string]("Realm"), of[string]("Service"), of[string]("Scope"),
		}},
		{reflect.TypeFor[transfer.DownloadOptions](), []field{
			of[[]transfer.Blob]("Blobs"), of[string]("BaseURL"), of[string]("DestDir"),
			of[string]("Repository"),
			of[int]("Concurrency"), of[func(completed, total int64)]("Progress"), of[*http.Client]("Client"),
			of[string]("Token"), of[getToken]("GetToken"), of[*slog.Logger]("Logger"),
			of[string]("UserAgent"),
			of[time.Duration]("StallTimeout"),
			of[int]("BodyConcurrency"), of[time.Duration]("RetryTimeout"), of[int64]("MaxBytesPerSecond"),
			of[bool]("Verify"), of[[]string]("Mirrors"),
			of[*transfer.Trace]("Trace"), of[[]string]("Reuse"), of[*transfer.Limiter]("Limiter"),
		}},
		{reflect.TypeFor[transfer.UploadOptions](), []field{
			of[[]transfer.Blob]("Blobs"), of[string]("BaseURL"), of[string]("SrcDir"), of[int]("Concurrency"),
			of[func(completed, total int64)]("Progress"), of[*http.Client]("Client"), of[string]("Token"),
			of[getToken]("GetToken"), of[*slog.Logger]("Logger"), of[string]("UserAgent"),
			of[[]byte]("Manifest"),
			of[string]("ManifestRef"), of[string]("Repository"),
			of[int]("BodyConcurrency"), of[time.Duration]("StallTimeout"), of[time.Duration]("RetryTimeout"),
			of[int64]("MaxBytesPerSecond"), of[*transfer.Trace]("Trace"),
			of[*transfer.Limiter]("Limiter"),
		}},
		{reflect.TypeFor[transfer.BlobError](), []field{
			of[string]("Digest"), of[string]("Op"), of[int]("Attempts"), of[error]("Err"),
		}},
		{reflect.TypeFor[transfer.StatusError](), []field{
			of[string]("Method"), of[string]("URL"), of[int]("StatusCode"),
			of[[]transfer.RegistryError]("Errors"),
		}},
		{reflect.TypeFor[transfer.RegistryError](), []field{of[string]("Code"), of[string]("Message")}},
	} {
		t.Run(c.of.Name(), func(t *testing.T) {
			var got []field
			for f := range c.of.Fields() {
				if f.IsExported() {
					got = append(got, field{f.Name, f.Type})
				}
			}
			require.GreaterOrEqual(t, len(got), len(c.want))
			assert.Equal(t, c.want, got[:len(c.want)])
		})
	}
}

// Each error that programs match is itself and no other, also behind a BlobError.
func TestAPISentinels(t *testing.T) {
	sentinels := []error{
		transfer.ErrInvalidOption, transfer.ErrInvalidDigest, transfer.ErrInvalidBlob,
		transfer.ErrDigestMismatch,
		transfer.ErrSizeMismatch, transfer.ErrStalled, transfer.ErrRetriesExhausted,
		transfer.ErrRedirectRefused,
		transfer.ErrWrongScheme, transfer.ErrInsufficientSpace, transfer.ErrProtocol,
	}
	for i, err := range sentinels {
		for j, other := range sentinels {
			assert.Equal(t, i == j, errors.Is(&transfer.BlobError{Err: err}, other), "%v and %v", err, other)
		}
	}
	status := &transfer.StatusError{Method: "GET", URL: "https://r.test/v2/", StatusCode: 503}
	var found *transfer.StatusError
	err := &transfer.BlobError{Digest: "sha256:x", Op: "download", Attempts: 2, Err: status}
	require.ErrorAs(t, err, &found)
	assert.True(t, found.Temporary())
}

// Programs look for words in these messages, and may take the advice out.
func TestStatusErrorEndsWithItsAdvice(t *testing.T) {
	const denied = " (access denied: check the token and what it may do in this repository)"
	for status, want := range map[int]string{
		401: "401 Unauthorized; DENIED: no" + denied,
		403: "403 Forbidden; DENIED: no" + denied,
		404: "404 Not Found; DENIED: no (check the repository, and the tag or digest)",
		500: "500 Internal Server Error; DENIED: no",
	} {
		err := &transfer.StatusError{Method: "GET", URL: "https://r.test/v2/", StatusCode: status}
		err.Errors = []transfer.RegistryError{{Code: "DENIED", Message: "no"}}
		assert.Equal(t, "GET https://r.test/v2/: "+want, err.Error())
		if advice := err.Advice(); status != 500 {
			assert.Contains(t, err.Error(), " ("+advice+")")
		} else {
			assert.Empty(t, advice)
		}
	}
}

var updateAPI = flag.Bool("update-api", false, "write the exported API into testdata/api")

// Every change of what a program can use is seen in the diff of testdata/api. To accept it:
//
//	go test -run TestAPIIsAsListed -update-api .
func TestAPIIsAsListed(t *testing.T) {
	for name, dir := range map[string]string{
		"transfer": ".", "registry": "registry", "registrytest": "registry/registrytest",
	} {
		t.Run(name, func(t *testing.T) {
			got, list := exported(t, dir), filepath.Join("testdata", "api", name+".txt")
			if *updateAPI {
				require.NoError(t, os.WriteFile(list, []byte(got), 0o644))
			}
			want, err := os.ReadFile(list)
			require.NoError(t, err)
			assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), got)
		})
	}
}

// exported returns the exported declarations of a package, without comments, bodies and values of variables.
func exported(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	files := token.NewFileSet()
	var declarations []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.FileExports(f)
		for _, d := range f.Decls {
			declarations = append(declarations, declared(t, files, d)...)
		}
	}
	slices.Sort(declarations)
	return strings.Join(declarations, "\n") + "\n"
}

// declared returns what one declaration declares, each in its own text.
func declared(t *testing.T, files *token.FileSet, d ast.Decl) (texts []string) {
	print := func(node any) string {
		var b bytes.Buffer
		require.NoError(t, (&printer.Config{Mode: printer.UseSpaces, Tabwidth: 4}).Fprint(&b, files, node))
		return blankLines.ReplaceAllString(b.String(), "\n")
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Body = nil; d.Recv != nil && !exportedReceiver(d) {
			return nil
		}
		return []string{print(d)}
	case *ast.GenDecl:
		if d.Tok == token.IMPORT {
			return nil
		}
		for _, spec := range d.Specs {
			if v, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.VAR {
				v.Values = nil
			}
			texts = append(texts, d.Tok.String()+" "+print(spec))
		}
	}
	return texts
}

// exportedReceiver tells whether a method is one of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
}

var blankLines = regexp.MustCompile(`\n\s*\n`)

func TestI9NilContext(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	var none context.Context
	down, up := w.downloadOptions(w.remote(10)), w.uploadOptions(w.local(20))
	for _, err := range []error{transfer.Download(none, down), transfer.Upload(none, up)} {
		require.ErrorIs(t, err, transfer.ErrInvalidOption)
		assert.ErrorContains(t, err, "nil context")
	}
	assert.Empty(t, w.reg.Requests())
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

const someHex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

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
		"I5 negative size":  {"negative", []transfer.Blob{{Digest: one, Size: -1}}},
		"I5 the least size": {"negative", []transfer.Blob{{Digest: one, Size: math.MinInt64}}},
		"I5 after a good blob": {"negative",
			[]transfer.Blob{{Digest: other, Size: 1}, {Digest: one, Size: -1}}},
		"I7 sum overflows": {"add up", []transfer.Blob{{Digest: one, Size: math.MaxInt64},
			{Digest: other, Size: 1}}},
		"S13 with other sizes": {"sizes 1 and 2",
			[]transfer.Blob{{Digest: one, Size: 1}, {Digest: one, Size: 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			refuse(t, transfer.ErrInvalidBlob, c.says,
				func(o *transfer.DownloadOptions) { o.Blobs = c.blobs })
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

func TestI10BaseURL(t *testing.T) {
	for _, base := range []string{
		"", "registry.test", "registry.test:443", "//registry.test", "http://", "http:///v2", "https://:443",
		"http://[::1", "http:registry.test",
		"ftp://registry.test", "file:///etc", "http://user:geheim@registry.test",
		"http://registry.test?x=geheim",
		"http://registry.test?",
		"http://registry.test/#geheim", "http://registry.test/%zz", "http://registry.test\n",
	} {
		t.Run(base, func(t *testing.T) {
			refuse(t, transfer.ErrInvalidOption, "base URL",
				func(o *transfer.DownloadOptions) { o.BaseURL = base })
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
		"": "library/_", "model": "model", "Library/Llama-3.1_8B": "Library/Llama-3.1_8B",
		"a/b/c/d":   "a/b/c/d",
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

func TestNegativeLimits(t *testing.T) {
	for name, change := range map[string]func(o *transfer.DownloadOptions){
		"StallTimeout":      func(o *transfer.DownloadOptions) { o.StallTimeout = -1 },
		"RetryTimeout":      func(o *transfer.DownloadOptions) { o.RetryTimeout = -1 },
		"MaxBytesPerSecond": func(o *transfer.DownloadOptions) { o.MaxBytesPerSecond = -1 },
	} {
		t.Run(name, func(t *testing.T) { refuse(t, transfer.ErrInvalidOption, "negative", change) })
	}
}

// The longest timeouts that there are stand for none.
func TestTimeoutsWithoutEnd(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("", "", "**late(10m)")
		up, down := w.uploadOptions(w.local(2<<20)), w.downloadOptions(w.remote(1000))
		up.StallTimeout, up.RetryTimeout = math.MaxInt64, math.MaxInt64
		down.StallTimeout, down.RetryTimeout = math.MaxInt64, math.MaxInt64
		uploaded, downloaded := tracedUpload(&up), tracedDownload(&down)
		require.NoError(t, w.upload(up))
		assert.Empty(t, uploaded.retried)
		w.progress = &progressLog{}
		require.NoError(t, w.download(down))
		assert.Empty(t, downloaded.retried)
	})
}

func TestHeadersThatCannotBeSent(t *testing.T) {
	type uploadChange func(*transfer.UploadOptions)
	cases := map[string]uploadChange{
		"token": func(o *transfer.UploadOptions) { o.Token = "secret\n" },
		"agent": func(o *transfer.UploadOptions) { o.UserAgent = "a\nb" },
		"new token": func(o *transfer.UploadOptions) {
			o.GetToken = (&issuer{give: tokenAfter(0, "secret\n")}).getToken
		},
		"manifest": func(o *transfer.UploadOptions) { o.Manifest = []byte(`{"mediaType":"a\nb"}`) },
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, name string, change uploadChange) {
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
		if name == "manifest" {
			require.ErrorIs(t, err, sentinel.ErrManifest)
		} else {
			require.ErrorIs(t, err, transfer.ErrInvalidOption)
		}
		if name != "new token" {
			assert.Empty(t, w.reg.Requests())
		}
		assert.Less(t, time.Since(begun), noBackoff)
	})
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
