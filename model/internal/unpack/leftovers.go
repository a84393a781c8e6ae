package unpack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	// blobFile is the name of a blob, or of what the library has left of one: a partial, a journal.
	blobFile = regexp.MustCompile(`^sha(256-[0-9a-f]{64}|384-[0-9a-f]{96}|512-[0-9a-f]{128})` +
		`(\.partial(-[0-9a-z]+|\.[0-9])?|\.journal(\.[0-9])?|\.tmp)?$`)

	// layoutFile is the name of a blob in an OCI layout.
	layoutFile = regexp.MustCompile(`^([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$`)

	// stateFile is what an interrupted pull leaves in its own directory besides blobs.
	stateFile = regexp.MustCompile(`^(unpacked-[0-9a-f]{16}|\.transfer\..*\.new)$`)

	// wholeBlob is the name of a blob that has come whole.
	wholeBlob = regexp.MustCompile(`^sha(256-[0-9a-f]{64}|384-[0-9a-f]{96}|512-[0-9a-f]{128})$`)
)

// Leftover is a file that no model of a directory needs.
type Leftover struct {
	Path string
	Size int64 // what it takes on the disk

	place []string // the directories to it
	name  string
}

// Leftovers lists the files of blobs in a directory that are not needed, and no others: those whose names are
// digests, and what pull has left of them.
func Leftovers(dir string, kind pack.Kind, needed map[string]bool) ([]Leftover, error) {
	keep := make(map[string]bool, len(needed))
	for dg := range needed {
		keep[pack.BlobPath(kind, digest.Digest(dg))] = true
	}
	var found []Leftover
	err := filesAt(dir, places(kind), func(place []string, info fs.FileInfo) {
		key := strings.Join(append(slices.Clone(place), info.Name()), "/")
		if isBlobFile(place, info.Name()) && !keep[key] {
			path := filepath.Join(dir, filepath.FromSlash(key))
			found = append(found, Leftover{path, sizeOnDisk(info), place, info.Name()})
		}
	})
	return found, err
}

// filesAt shows the regular files of places below a directory.
func filesAt(dir string, places [][]string, visit func(place []string, info fs.FileInfo)) error {
	for _, place := range places {
		err := inPlace(dir, place, func(root *os.Root) error {
			entries, err := fs.ReadDir(root.FS(), ".")
			for _, e := range entries {
				if !e.Type().IsRegular() {
					continue
				}
				switch info, err := e.Info(); {
				case err == nil:
					visit(place, info)
				case !errors.Is(err, fs.ErrNotExist): // it was removed meanwhile
					return err
				}
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// Remove removes what was found in a directory.
func (l Leftover) Remove(dir string) error {
	return inPlace(dir, l.place, func(root *os.Root) error { return root.Remove(l.name) })
}

// places are the directories that have blobs under names of blobs.
func places(kind pack.Kind) [][]string {
	switch kind {
	case pack.Blobs:
		return [][]string{{}}
	case pack.Ollama:
		return [][]string{{"blobs"}}
	case pack.OCI:
		all := [][]string{{names.StateDir}}
		for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
			all = append(all, []string{ocispec.ImageBlobsDir, a.String()})
		}
		return all
	}
	return [][]string{{names.StateDir}}
}

// isBlobFile tells the files of blobs by their names.
func isBlobFile(place []string, name string) bool {
	switch {
	case len(place) == 2:
		return layoutFile.MatchString(name)
	case len(place) == 1 && place[0] == names.StateDir && stateFile.MatchString(name):
		return true
	}
	return blobFile.MatchString(name)
}

// inPlace opens a directory below another. Directories may be the user's own links.
func inPlace(dir string, place []string, do func(root *os.Root) error) error {
	root, err := rootfile.OpenDir(dir)
	for _, name := range place {
		if err != nil {
			return err
		}
		above := root
		root, err = openExistingDir(above, name)
		_ = above.Close() // it was only read
	}
	if err != nil {
		return err
	}
	return errors.Join(do(root), root.Close())
}
