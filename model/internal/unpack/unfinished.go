package unpack

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
	case !isMissing(lstat(filepath.Join(dir, names.StateDir, recordName))):
		return 0, false
	case hasBlobs(dir):
		return pack.Blobs, isMissing(lstat(filepath.Join(dir, pack.ManifestName)))
	case hasBlobs(filepath.Join(dir, "blobs")):
		return pack.Ollama, isMissing(lstat(filepath.Join(dir, "manifests")))
	}
	entries, err := os.ReadDir(dir)
	return pack.Plain, err == nil && (len(entries) == 0 || lstat(filepath.Join(dir, names.StateDir)) == nil)
}

func lstat(path string) error {
	_, err := os.Lstat(path)
	return err
}

func hasBlobs(dir string) bool {
	entries, _ := os.ReadDir(dir) // what cannot be read is told by what needs it
	for _, e := range entries {
		if e.Type().IsRegular() && blobFile.MatchString(e.Name()) {
			return true
		}
	}
	return false
}

// WholeBlobs lists the blobs of an unfinished directory that have their final names.
func WholeBlobs(dir string, kind pack.Kind) ([]transfer.Blob, error) {
	var whole []transfer.Blob
	for _, place := range places(kind) {
		if len(place) > 0 && place[0] == names.StateDir {
			continue
		}
		err := inPlace(dir, place, func(root *os.Root) error {
			entries, err := fs.ReadDir(root.FS(), ".")
			for _, e := range entries {
				dg, ok := digestOf(place, e.Name())
				if !ok || !e.Type().IsRegular() {
					continue
				}
				info, err := e.Info()
				if err != nil {
					return err
				}
				whole = append(whole, transfer.Blob{Digest: dg, Size: info.Size()})
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return whole, nil
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
