package pack

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/internal/tempdir"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

const hashBuffer = 1 << 20 // 1 MiB

// Stage is a temporary directory that has the blobs of a push under the names of their digests.
// Files are linked into it, not copied, where the system lets us.
type Stage struct{ Dir string }

// NewStage makes a stage, which must be closed.
func NewStage() (*Stage, error) {
	dir, err := tempdir.Make("transfer-push-*")
	if err != nil {
		return nil, err
	}
	return &Stage{Dir: dir}, nil
}

// Close removes the stage, where there is one.
func (s *Stage) Close() error {
	if s == nil {
		return nil
	}
	return os.RemoveAll(s.Dir)
}

// add gives a file a place under its digest.
func (s *Stage) add(path string, dg digest.Digest) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if absolute, err = filepath.EvalSymlinks(absolute); err != nil {
		return err
	}
	name := filepath.Join(s.Dir, BlobName(dg))
	for _, link := range []func(string, string) error{os.Symlink, os.Link} {
		if err := link(absolute, name); err == nil || errors.Is(err, fs.ErrExist) {
			return nil
		}
	}
	return copyFile(name, absolute) // where nobody may make links
}

// addBytes makes a blob of bytes.
func (s *Stage) addBytes(mediaType string, data []byte) (ocispec.Descriptor, error) {
	dg := digest.FromBytes(data)
	d := ocispec.Descriptor{MediaType: mediaType, Digest: dg, Size: int64(len(data))}
	return d, os.WriteFile(filepath.Join(s.Dir, BlobName(dg)), data, 0o600)
}

func copyFile(to, from string) (err error) {
	src, err := rootfile.OpenLinked(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// Hash returns the digests of files, and none of directories, several hashed at once. Progress is told how
// much is hashed, one call at a time.
func Hash(ctx context.Context, files []File, progress func(done, total int64)) ([]digest.Digest, error) {
	var done, total int64
	for _, f := range files {
		total += f.size()
	}
	progress(0, total)
	var mu sync.Mutex // guards done and the order of the calls
	hashed := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		done += int64(n)
		progress(done, total)
	}
	digests := make([]digest.Digest, len(files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(runtime.GOMAXPROCS(0), 1))
	for i, f := range files {
		if f.Info.IsDir() {
			continue
		}
		g.Go(func() (err error) {
			digests[i], err = hashFile(ctx, f.Path, digest.Canonical, hashed)
			return err
		})
	}
	return digests, g.Wait()
}

// HashFile returns the digest of a file.
func HashFile(ctx context.Context, path string, algorithm digest.Algorithm) (digest.Digest, error) {
	return hashFile(ctx, path, algorithm, func(int) {})
}

func hashFile(
	ctx context.Context, path string, algorithm digest.Algorithm, moved func(n int),
) (digest.Digest, error) {
	f, err := rootfile.OpenLinked(path)
	if err != nil {
		return "", pathError(path, err)
	}
	defer f.Close()
	digester := algorithm.Digester()
	buffer := make([]byte, hashBuffer)
	for ctx.Err() == nil {
		n, err := f.Read(buffer)
		_, _ = digester.Hash().Write(buffer[:n]) // a hash never fails
		moved(n)
		if errors.Is(err, io.EOF) {
			return digester.Digest(), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", context.Cause(ctx)
}

// Part is a manifest and the blobs that it names.
type Part struct {
	Manifest []byte
	Blobs    []transfer.Blob
}

// newPart returns a part whose manifest has a config and layers.
func newPart(manifest any, config ocispec.Descriptor, layers []ocispec.Descriptor) (Part, error) {
	data, err := json.Marshal(manifest)
	if err != nil {
		return Part{}, err
	}
	blobs := []transfer.Blob{{Digest: config.Digest.String(), Size: config.Size}}
	for _, l := range layers {
		blobs = append(blobs, transfer.Blob{Digest: l.Digest.String(), Size: l.Size})
	}
	return Part{Manifest: data, Blobs: Distinct(blobs)}, nil
}
