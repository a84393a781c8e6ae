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
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

var updateAPI = flag.Bool("update-api", false, "write the exported API into testdata/api")

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
		{reflect.TypeFor[transfer.Blob](), []field{of[string]("Digest"), of[int64]("Size"), of[string]("From")}},
		{reflect.TypeFor[transfer.AuthChallenge](), []field{
			of[string]("Realm"), of[string]("Service"), of[string]("Scope"),
		}},
		{reflect.TypeFor[transfer.DownloadOptions](), []field{
			of[[]transfer.Blob]("Blobs"), of[string]("BaseURL"), of[string]("DestDir"), of[string]("Repository"),
			of[int]("Concurrency"), of[func(completed, total int64)]("Progress"), of[*http.Client]("Client"),
			of[string]("Token"), of[getToken]("GetToken"), of[*slog.Logger]("Logger"), of[string]("UserAgent"),
			of[time.Duration]("StallTimeout"),
			of[int]("BodyConcurrency"), of[time.Duration]("RetryTimeout"), of[int64]("MaxBytesPerSecond"),
			of[bool]("Verify"), of[[]string]("Mirrors"),
			of[*transfer.Trace]("Trace"), of[[]string]("Reuse"),
		}},
		{reflect.TypeFor[transfer.UploadOptions](), []field{
			of[[]transfer.Blob]("Blobs"), of[string]("BaseURL"), of[string]("SrcDir"), of[int]("Concurrency"),
			of[func(completed, total int64)]("Progress"), of[*http.Client]("Client"), of[string]("Token"),
			of[getToken]("GetToken"), of[*slog.Logger]("Logger"), of[string]("UserAgent"), of[[]byte]("Manifest"),
			of[string]("ManifestRef"), of[string]("Repository"),
			of[int]("BodyConcurrency"), of[time.Duration]("StallTimeout"), of[time.Duration]("RetryTimeout"),
			of[int64]("MaxBytesPerSecond"), of[*transfer.Trace]("Trace"),
		}},
		{reflect.TypeFor[transfer.BlobError](), []field{
			of[string]("Digest"), of[string]("Op"), of[int]("Attempts"), of[error]("Err"),
		}},
		{reflect.TypeFor[transfer.StatusError](), []field{
			of[string]("Method"), of[string]("URL"), of[int]("StatusCode"), of[[]transfer.RegistryError]("Errors"),
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
	}
	up := transfer.UploadOptions{
		Blobs: []transfer.Blob{blob}, BaseURL: "x", SrcDir: "x", Concurrency: 1, Progress: progress,
		Client: http.DefaultClient, Token: "x", GetToken: token, Logger: slog.Default(), UserAgent: "x",
		Manifest: []byte("x"), ManifestRef: "x", Repository: "x",
		BodyConcurrency: 1, StallTimeout: 1, RetryTimeout: 1, MaxBytesPerSecond: 1,
		Trace: &transfer.Trace{},
	}
	for _, options := range []any{down, up} {
		for f, v := range reflect.ValueOf(options).Fields() {
			assert.False(t, v.IsZero(), "%T has a field %s that is not used here", options, f.Name)
		}
	}
	assert.Equal(t, 64, transfer.DefaultDownloadConcurrency)
	assert.Equal(t, 32, transfer.DefaultUploadConcurrency)
}

// Each error that programs match is itself and no other, also behind a BlobError.
func TestAPISentinels(t *testing.T) {
	sentinels := []error{
		transfer.ErrInvalidOption, transfer.ErrInvalidDigest, transfer.ErrInvalidBlob, transfer.ErrDigestMismatch,
		transfer.ErrSizeMismatch, transfer.ErrStalled, transfer.ErrRetriesExhausted, transfer.ErrRedirectRefused,
		transfer.ErrWrongScheme, transfer.ErrInsufficientSpace, transfer.ErrProtocol,
	}
	for i, err := range sentinels {
		for j, other := range sentinels {
			assert.Equal(t, i == j, errors.Is(&transfer.BlobError{Err: err}, other), "%v and %v", err, other)
		}
	}
	status := &transfer.StatusError{Method: "GET", URL: "https://r.test/v2/", StatusCode: 503}
	var found *transfer.StatusError
	require.ErrorAs(t, &transfer.BlobError{Digest: "sha256:x", Op: "download", Attempts: 2, Err: status}, &found)
	assert.True(t, found.Temporary())
}

// Programs look for words in these messages, and may take the advice out.
func TestStatusErrorEndsWithItsAdvice(t *testing.T) {
	for status, want := range map[int]string{
		401: "401 Unauthorized; DENIED: no (access denied: check the token and what it may do in this repository)",
		403: "403 Forbidden; DENIED: no (access denied: check the token and what it may do in this repository)",
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

// Every change of what a program can use is seen in the diff of testdata/api. To accept it:
//
//	go test -run TestAPIIsAsListed -update-api .
func TestAPIIsAsListed(t *testing.T) {
	for name, dir := range map[string]string{"transfer": ".", "registry": "registry"} {
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

var blankLines = regexp.MustCompile(`\n\s*\n`)

// exportedReceiver tells whether a method is one of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
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
