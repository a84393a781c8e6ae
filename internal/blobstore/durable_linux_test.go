package blobstore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkDurable compares two ways to make small files durable before they get their names: a sync of each,
// as this package does, and one of the whole file system for a batch. It needs a real disk: set TMPDIR.
func BenchmarkDurable(b *testing.B) {
	const files, batch = 512, 128
	content := make([]byte, 64<<10)
	for i := range content {
		content[i] = byte(i * 7)
	}
	for _, workers := range []int{4, 16, 64} {
		b.Run(fmt.Sprintf("sync each, %d workers", workers), func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				everyFile(files, workers, func(i int) {
					f := write(b, dir, i, content)
					require.NoError(b, unix.Fdatasync(int(f.Fd())))
					require.NoError(b, f.Close())
					name(b, dir, i)
				})
				syncDir(b, dir)
			}
		})
		b.Run(fmt.Sprintf("sync batches, %d workers", workers), func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				for from := 0; from < files; from += batch {
					n := min(batch, files-from)
					everyFile(n, workers, func(i int) {
						require.NoError(b, write(b, dir, from+i, content).Close())
					})
					d, err := os.Open(dir)
					require.NoError(b, err)
					require.NoError(b, unix.Syncfs(int(d.Fd())))
					require.NoError(b, d.Close())
					everyFile(n, workers, func(i int) { name(b, dir, from+i) })
				}
				syncDir(b, dir)
			}
		})
	}
}

func everyFile(n, workers int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range workers {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func write(b *testing.B, dir string, i int, content []byte) *os.File {
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%d.partial", i)))
	require.NoError(b, err)
	_, err = f.Write(content)
	require.NoError(b, err)
	return f
}

func name(b *testing.B, dir string, i int) {
	require.NoError(b, os.Rename(
		filepath.Join(dir, fmt.Sprintf("%d.partial", i)), filepath.Join(dir, fmt.Sprint(i)),
	))
}

func syncDir(b *testing.B, dir string) {
	d, err := os.Open(dir)
	require.NoError(b, err)
	require.NoError(b, d.Sync())
	require.NoError(b, d.Close())
}
