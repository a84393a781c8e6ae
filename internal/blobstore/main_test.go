package blobstore

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// TestMain plays the child of a test where it is asked to, and fails when a goroutine or a
// descriptor is left.
func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(playChild(role))
	}
	goroutines, files := runtime.NumGoroutine(), openFiles()
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code) // a fuzzer has goroutines of its own
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > goroutines && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if n, open := runtime.NumGoroutine(), openFiles(); n > goroutines || open > files {
		fmt.Printf("left: %d goroutines of %d, %d files of %d\n", n, goroutines, open, files)
		code = max(code, 1)
	}
	os.Exit(code)
}

// openFiles counts the regular files and directories that are open, where the system tells.
func openFiles() (n int) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		if fi, err := os.Stat(link); err == nil && (fi.Mode().IsRegular() || fi.IsDir()) {
			n++
		}
	}
	return n
}

// random returns size bytes that are always the same.
func random(size int) []byte {
	if size == large {
		return largeContent()
	}
	return generate(size)
}

// largeContent is what most tests need, and slow to make under the race detector.
var largeContent = sync.OnceValue(func() []byte { return generate(large) })

func generate(size int) []byte {
	b := make([]byte, size)
	seed := [32]byte{byte(size), byte(size >> 8)}
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// digestOf returns the digest of bytes, which for the content of large is worth remembering.
func digestOf(b []byte) digest.Digest {
	if len(b) == large && &b[0] == &largeContent()[0] {
		return largeDigest()
	}
	return digest.FromBytes(b)
}

var largeDigest = sync.OnceValue(func() digest.Digest { return digest.FromBytes(largeContent()) })

func open(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func claim(t testing.TB, d *Dir, content []byte) *Partial {
	t.Helper()
	p, err := d.Claim(t.Context(), digestOf(content), int64(len(content)))
	require.NoError(t, err)
	return p
}

// write writes a range of the content.
func write(t testing.TB, p *Partial, content []byte, start, end int64) {
	t.Helper()
	w := p.WriterAt(start)
	for start < end {
		n := min(end-start, 1<<20)
		_, err := w.Write(content[start : start+n])
		require.NoError(t, err)
		start += n
	}
	require.NoError(t, w.Close())
}

// fill writes what is missing.
func fill(t testing.TB, p *Partial, content []byte) {
	t.Helper()
	for _, r := range p.Missing() {
		write(t, p, content, r.Start, r.End)
	}
}

func commit(t testing.TB, p *Partial) {
	t.Helper()
	require.NoError(t, p.Commit(context.Background()))
	require.NoError(t, p.Close(false))
}

// files returns the names in a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// requireBlob makes sure that the blob is all there is in the directory, and right.
func requireBlob(t testing.TB, dir string, content []byte) {
	t.Helper()
	name := nameOf(digestOf(content))
	require.Equal(t, []string{name}, files(t, dir))
	fi, err := os.Lstat(filepath.Join(dir, name))
	require.NoError(t, err)
	require.True(t, fi.Mode().IsRegular())
	require.True(t, holds(t, filepath.Join(dir, name), content))
}

// holds tells whether a file has this content. It is not read as a whole, because that takes longer.
func holds(t testing.TB, name string, content []byte) bool {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	buf := make([]byte, 256<<10)
	for len(content) > 0 {
		n, err := io.ReadFull(f, buf[:min(len(content), len(buf))])
		if err != nil || !bytes.Equal(content[:n], buf[:n]) {
			return false
		}
		content = content[n:]
	}
	n, err := f.Read(buf)
	return n == 0 && err == io.EOF
}
