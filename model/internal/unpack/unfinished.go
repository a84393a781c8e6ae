package unpack

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Unfinished tells which form a directory was to have whose first pull was interrupted before it named its
// model.
func Unfinished(dir string) (kind pack.Kind, found bool) {
	switch pack.KindOf(dir) {
	case pack.OCI:
		return pack.OCI, isMissing(lstat(filepath.Join(dir, ocispec.ImageIndexFile)))
	case pack.Plain:
	default:
		return 0, false
	}
	switch {
	case !isMissing(lstat(filepath.Join(dir, names.StateDir, names.RecordName))):
		return 0, false
	case pack.HasBlobs(dir):
		return pack.Blobs, isMissing(lstat(filepath.Join(dir, pack.ManifestName)))
	case pack.HasBlobs(filepath.Join(dir, "blobs")):
		return pack.Ollama, isMissing(lstat(filepath.Join(dir, "manifests")))
	}
	return pack.Plain, isStateOfPull(dir)
}

// isStateOfPull tells what a pull has left from the lock of whoever looks at somebody's files.
func isStateOfPull(dir string) bool {
	state, err := os.ReadDir(filepath.Join(dir, names.StateDir))
	if err != nil {
		return false
	}
	isLock := func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), lockName) }
	if len(slices.DeleteFunc(state, isLock)) > 0 {
		return true
	}
	all, err := os.ReadDir(dir)
	isOwn := func(e fs.DirEntry) bool {
		return e.Name() == names.StateDir ||
			e.Name() == ocispec.ImageBlobsDir && isEmpty(filepath.Join(dir, e.Name()))
	}
	return err == nil && len(slices.DeleteFunc(all, isOwn)) == 0
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

func lstat(path string) error {
	_, err := os.Lstat(path)
	return err
}

// WholeBlobs lists the blobs of an unfinished directory that have come whole, by their paths: those that have
// their places, and those that wait for them.
func WholeBlobs(dir string, kind pack.Kind) (map[string]transfer.Blob, error) {
	whole := map[string]transfer.Blob{}
	err := filesAt(dir, places(kind), func(place []string, info fs.FileInfo) {
		if dg, ok := digestOf(place, info.Name()); ok {
			path := filepath.Join(append(append([]string{dir}, place...), info.Name())...)
			whole[path] = transfer.Blob{Digest: dg, Size: info.Size()}
		}
	})
	return whole, err
}

// digestOf reads the name of a whole blob.
func digestOf(place []string, name string) (dg string, ok bool) {
	switch {
	case len(place) == 2:
		dg = place[1] + ":" + name
	case wholeBlob.MatchString(name):
		dg = strings.Replace(name, "-", ":", 1)
	}
	return dg, digest.Digest(dg).Validate() == nil
}
