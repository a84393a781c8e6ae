package serve_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/modeltransfer/transfer/model/serve"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestH7OneRegistryWritesToADirectory(t *testing.T) {
	dir := t.TempDir()
	_, stop := run(t, dir, serve.Options{})
	_, err := serve.Open(dir, serve.Options{})
	require.ErrorIs(t, err, serve.ErrBusy)
	require.ErrorContains(t, err, dir)
	readOnly, err := serve.Open(dir, serve.Options{ReadOnly: true})
	require.NoError(t, err, "one that writes nothing is in nobody's way")
	require.NoError(t, readOnly.Close())
	stop()
	_, stop = run(t, dir, serve.Options{})
	stop()
}

// Whatever else writes to the file of an upload, a blob is what its digest says.
func TestH7WhatSomebodyElseHasWrittenIsNoticed(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"appended":  func(path string) error { return appendTo(path, "xx") },
		"truncated": func(path string) error { return os.Truncate(path, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			base := start(t, dir, false)
			resp, _ := call(t, "POST", base+"/v2/me/model/blobs/uploads/", "")
			upload := resp.Header.Get("Location")
			resp, _ = call(t, "PATCH", base+upload, "01234", "Content-Range", "0-4")
			require.Equal(t, 202, resp.StatusCode)
			require.NoError(t, spoil(filepath.Join(dir, "uploads", filepath.Base(upload))))
			resp, _ = call(t, "PATCH", base+upload, "56789")
			assert.Equal(t, 416, resp.StatusCode, "also where the client does not say where it goes on")
			assert.NotEqual(t, "0-4", resp.Header.Get("Range"))
			dg := digest.FromString("0123456789")
			resp, _ = call(t, "PUT", base+upload+"?digest="+dg.String(), "")
			assert.Equal(t, 400, resp.StatusCode)
			resp, _ = call(t, "GET", base+"/v2/me/model/blobs/"+dg.String(), "")
			assert.Equal(t, 404, resp.StatusCode)
		})
	}
}

func TestH7WhatIsWrittenWhileABodyArrivesIsNoticed(t *testing.T) {
	dir := t.TempDir()
	base := start(t, dir, false)
	resp, _ := call(t, "POST", base+"/v2/me/model/blobs/uploads/", "")
	upload := resp.Header.Get("Location")
	file := filepath.Join(dir, "uploads", filepath.Base(upload))
	body, rest := io.Pipe()
	dg := digest.FromString("0123456789")
	req, err := http.NewRequest("PUT", base+upload+"?digest="+dg.String(), body)
	require.NoError(t, err)
	go func() {
		_, _ = rest.Write([]byte("01234"))
		for info, err := os.Stat(file); err == nil && info.Size() < 5; info, err = os.Stat(file) {
			runtime.Gosched()
		}
		_ = appendTo(file, "xx")
		_, _ = rest.Write([]byte("56789"))
		rest.Close()
	}()
	resp, err = http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, 400, resp.StatusCode)
	_, err = os.Stat(filepath.Join(dir, "blobs", "sha256", dg.Encoded()))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
