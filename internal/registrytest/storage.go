package registrytest

import (
	"bytes"
	_ "crypto/sha512" // for sha384 and sha512 digests
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
)

// storage is what a registry has. Its exported methods are the registry's.
type storage struct {
	mu    sync.Mutex // guards the fields that follow
	blobs map[digest.Digest][]byte
	known map[digest.Digest][]byte // blobs that need not be hashed to know that they are right
	repos repositories
}

// repository is one name space of a registry.
type repository struct {
	blobs     map[digest.Digest]bool
	manifests map[digest.Digest]manifest
	tags      map[string]digest.Digest
}

func newStorage() *storage {
	return &storage{
		blobs: map[digest.Digest][]byte{}, known: map[digest.Digest][]byte{}, repos: repositories{},
	}
}

// repositories are all, by their names.
type repositories map[string]*repository

// at returns a repository, which exists once it is named.
func (all repositories) at(name string) *repository {
	if all[name] == nil {
		all[name] = &repository{
			blobs:     map[digest.Digest]bool{},
			manifests: map[digest.Digest]manifest{},
			tags:      map[string]digest.Digest{},
		}
	}
	return all[name]
}

// Put stores a blob in a repository and returns its digest. The registry keeps data.
func (s *storage) Put(repo string, data []byte) digest.Digest {
	d := digest.FromBytes(data)
	s.Replace(repo, d, data)
	return d
}

// Replace makes the registry serve data under d, whatever the digest of data is, as a
// broken or hostile registry does.
func (s *storage) Replace(repo string, d digest.Digest, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d] = data
	s.repos.at(repo).blobs[d] = true
}

// Expect makes the registry compare an upload of that digest with data, which the digest is of. Uploads that
// are not the same are hashed, as all others are. The registry does not have the blob before it is uploaded.
func (s *storage) Expect(d digest.Digest, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[d] = data
}

// Matches tells whether d is the digest of data.
func (s *storage) Matches(d digest.Digest, data []byte) bool {
	s.mu.Lock()
	known, ok := s.known[d]
	s.mu.Unlock()
	return ok && bytes.Equal(known, data) || d.Algorithm().FromBytes(data) == d
}

// Blob returns a blob that some repository has or had. It must not be changed.
func (s *storage) Blob(d digest.Digest) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.blobs[d]
	return data, ok
}

// Has reports whether that repository has the blob.
func (s *storage) Has(repo string, d digest.Digest) bool {
	_, ok := s.blobOf(repo, d)
	return ok
}

func (s *storage) blobOf(repo string, d digest.Digest) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.blobs[d]
	return data, ok && s.repos.at(repo).blobs[d]
}

// Delete removes a blob from a repository.
func (s *storage) Delete(repo string, d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.repos.at(repo).blobs, d)
}

// Manifest returns the manifest under a tag or digest.
func (s *storage) Manifest(repo, ref string) ([]byte, bool) {
	m, _, ok := s.manifest(repo, ref)
	return m.data, ok
}

// manifest finds a manifest by tag or digest.
func (s *storage) manifest(repo, ref string) (manifest, digest.Digest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	space := s.repos.at(repo)
	d, tagged := space.tags[ref]
	if !tagged {
		d = digest.Digest(ref)
	}
	m, ok := space.manifests[d]
	return m, d, ok
}

// PutManifest stores a manifest under a tag, or under its digest when ref is one, unchecked.
func (s *storage) PutManifest(repo, ref, mediaType string, data []byte) digest.Digest {
	d, err := digest.Parse(ref)
	tagged := err != nil
	if tagged {
		d = digest.FromBytes(data)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos.at(repo).manifests[d] = manifest{mediaType: mediaType, data: data}
	if tagged {
		s.repos.at(repo).tags[ref] = d
	}
	return d
}

func (s *storage) deleteManifest(repo, ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	space := s.repos.at(repo)
	if _, tagged := space.tags[ref]; tagged {
		delete(space.tags, ref)
		return
	}
	delete(space.manifests, digest.Digest(ref))
	maps.DeleteFunc(space.tags, func(_ string, d digest.Digest) bool { return d.String() == ref })
}

func (s *storage) pointingAt(repo, subject string) []descriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []descriptor
	space := s.repos.at(repo)
	for _, d := range slices.Sorted(maps.Keys(space.manifests)) {
		m := space.manifests[d]
		var c content
		if json.Unmarshal(m.data, &c) != nil || c.Subject == nil || c.Subject.Digest.String() != subject {
			continue
		}
		kind := c.ArtifactType
		if kind == "" && c.Config != nil {
			kind = c.Config.MediaType
		}
		found = append(found, descriptor{
			MediaType: m.mediaType, Digest: d, Size: int64(len(m.data)),
			ArtifactType: kind, Annotations: c.Annotations,
		})
	}
	return found
}

func (s *storage) tags(repo string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.repos.at(repo).tags))
}

// names returns the names of the repositories that have something.
func (s *storage) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, r := range s.repos {
		if len(r.blobs) > 0 || len(r.manifests) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
