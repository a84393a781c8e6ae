package serve

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// store is what a directory has of blobs and repositories, as the package documentation lists it.
type store struct {
	dir    string
	linked *linked
}

func newStore(dir string) store { return store{dir, &linked{known: map[digest.Digest]hashed{}}} }

// trusted fails where another user has led a directory of the registry, or of a repository, elsewhere.
func (s store) trusted(name string) error {
	below := []string{"uploads"}
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		below = append(below, path.Join("blobs", a.String()))
	}
	for _, what := range []string{"_manifests", "_tags"} {
		below = append(below, path.Join("repositories", name, what))
	}
	for _, b := range below {
		if err := trusted(s.dir, b); err != nil {
			return err
		}
	}
	return nil
}

// blobFile is where a blob is. The digest must be valid.
func (s store) blobFile(dg digest.Digest) string {
	return filepath.Join(s.dir, "blobs", dg.Algorithm().String(), dg.Encoded())
}

func (s store) repository(name string) string {
	return filepath.Join(s.dir, "repositories", filepath.FromSlash(name))
}

// entry is the file that says that a repository has a tag or a manifest.
func (s store) entry(name, what string) string {
	if strings.Contains(what, ":") {
		return filepath.Join(s.repository(name), "_manifests", strings.Replace(what, ":", "-", 1))
	}
	return filepath.Join(s.repository(name), "_tags", what)
}

// openBlob opens a blob to read it.
func (s store) openBlob(dg digest.Digest) (*os.File, error) {
	f, err := open(s.blobFile(dg), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	named, otherErr := os.Lstat(s.blobFile(dg))
	if err == nil && (otherErr != nil || !os.SameFile(opened, named)) {
		err = s.linked.check(f, dg)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// has tells whether a blob is there.
func (s store) has(dg digest.Digest) (bool, error) {
	if dg.Validate() != nil {
		return false, nil
	}
	f, err := s.openBlob(dg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, f.Close()
}

// readManifest returns a manifest of a repository. One whose type is not that of a manifest is not there.
func (s store) readManifest(name string, dg digest.Digest) (registry.Manifest, error) {
	mediaType, err := readFile(s.entry(name, dg.String()))
	if err != nil {
		return registry.Manifest{}, err
	}
	m := registry.Manifest{MediaType: strings.TrimSpace(string(mediaType)), Digest: dg.String()}
	if !isManifest(m.MediaType) {
		return m, fs.ErrNotExist
	}
	m.Data, err = readFile(s.blobFile(dg))
	if err == nil && dg.Algorithm().FromBytes(m.Data) != dg { // a link may lead to any file of this machine
		err = &fs.PathError{Op: "read", Path: s.blobFile(dg), Err: errContent}
	}
	return m, err
}

// keep writes the manifest, then that it is there, then its tag.
func (s store) keep(name, what string, dg digest.Digest, m registry.Manifest) error {
	if err := s.write(s.blobFile(dg), m.Data); err != nil {
		return err
	}
	if err := s.write(s.entry(name, dg.String()), []byte(m.MediaType)); err != nil {
		return err
	}
	if strings.Contains(what, ":") {
		return nil
	}
	return s.write(s.entry(name, what), []byte(dg))
}

// write gives a file its content, whole or not at all.
func (s store) write(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "uploads"), "small-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// place gives a file its final name, durably.
func place(from, to string) error {
	f, err := open(from, os.O_RDWR)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// missing returns the first blob or manifest that is named and not there. A layer
// that may not be distributed is fetched from elsewhere.
func (s store) missing(c registry.Content) (string, error) {
	all := slices.Concat(c.Manifests, slices.DeleteFunc(slices.Clone(c.Layers), isForeign))
	if c.Config != nil {
		all = append(all, *c.Config)
	}
	for _, d := range all {
		if there, err := s.has(digest.Digest(d.Digest)); err != nil || !there {
			return d.Digest, err
		}
	}
	return "", nil
}

func isForeign(d registry.Descriptor) bool {
	return strings.HasPrefix(d.MediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		strings.HasPrefix(d.MediaType, "application/vnd.docker.image.rootfs.foreign.")
}

// tags returns the tags of a repository that lead to a manifest.
func (s store) tags(name string) (map[string]digest.Digest, error) {
	entries, err := os.ReadDir(filepath.Join(s.repository(name), "_tags"))
	if err != nil {
		return nil, err
	}
	tags := make(map[string]digest.Digest, len(entries))
	for _, e := range entries {
		text, err := readFile(s.entry(name, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		dg := digest.Digest(strings.TrimSpace(string(text)))
		there, err := s.has(dg)
		if there {
			_, err = os.Stat(s.entry(name, dg.String()))
		}
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case there && err == nil:
			tags[e.Name()] = dg
		}
	}
	return tags, nil
}

// maxReferrers is how large the manifests of one page of referrers may be: their annotations are on it.
const maxReferrers = 1 << 20 // 1 MiB

// referrers returns a page of the list that begins behind a digest, and whether there is more. It reads all
// manifests of a repository: lists of their own would have to agree with them.
func (s store) referrers(name, subject, artifactType, last string) (list []descriptor, more bool, err error) {
	list = []descriptor{}
	entries, err := os.ReadDir(filepath.Join(s.repository(name), "_manifests"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	size := 0
	for _, e := range entries {
		dg := strings.Replace(e.Name(), "-", ":", 1)
		if dg <= last {
			continue
		}
		m, err := s.readManifest(name, digest.Digest(dg))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, false, err
		}
		c, err := m.Content()
		if err != nil || c.Subject == nil || c.Subject.Digest != subject {
			continue
		}
		d := descriptor{m.MediaType, m.Digest, len(m.Data), c.ArtifactType, c.Annotations}
		if d.ArtifactType == "" && c.Config != nil {
			d.ArtifactType = c.Config.MediaType
		}
		if artifactType != "" && d.ArtifactType != artifactType {
			continue
		}
		if size += d.Size; size > maxReferrers && len(list) > 0 {
			return list, true, nil
		}
		list = append(list, d)
	}
	return list, false, nil
}

// repositories lists the repositories, in order.
func (s store) repositories() ([]string, error) {
	names := []string{}
	root := os.DirFS(filepath.Join(s.dir, "repositories"))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "_manifests" {
			names = append(names, path.Dir(name))
			return fs.SkipDir
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}
