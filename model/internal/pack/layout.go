package pack

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/limit"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// ManifestName is the manifest of a directory of blobs.
	ManifestName = "manifest.json"

	// maxManifest is the largest manifest that is read, as in package registry.
	maxManifest = 4 << 20 // 4 MiB

	// maxDepth is how deep indexes may be nested.
	maxDepth = 4
)

var (
	// ErrNoModel is a name that no model of a directory has. The error lists those that there are.
	ErrNoModel = errors.New("no model of that name is in it")

	// ErrChoice is a directory with several models of which none was named. The error lists them.
	ErrChoice = errors.New("there are several models in it")
)

// Kind is what a directory holds.
type Kind int

// Kinds of directories.
const (
	Plain  Kind = iota // files
	Blobs              // manifest.json and blobs named by their digests
	OCI                // an OCI image layout
	Ollama             // Ollama's models directory
)

// String names what a directory is, for people.
func (k Kind) String() string {
	return [...]string{"a directory of files", "a directory of blobs", "an OCI layout", "Ollama's models"}[k]
}

// KindOf tells what a path holds.
func KindOf(dir string) Kind {
	switch {
	case isFile(filepath.Join(dir, ocispec.ImageLayoutFile)):
		return OCI
	case isDir(filepath.Join(dir, "manifests")) && isDir(filepath.Join(dir, "blobs")):
		return Ollama
	case isFile(filepath.Join(dir, ManifestName)) && looksLikeBlobs(dir):
		return Blobs
	}
	return Plain
}

// looksLikeBlobs tells a model's manifest.json from a file that only has the name.
func looksLikeBlobs(dir string) bool {
	entries, err := os.ReadDir(dir)
	others := len(entries) - 1
	state := filepath.Join(dir, names.StateDir)
	if isDir(state) && !isFile(filepath.Join(state, names.RecordName)) {
		others-- // a lock, and no record of named files
	}
	return err == nil && others == 0 || HasBlobs(dir)
}

// HasBlobs tells whether there are blobs in a directory.
func HasBlobs(dir string) bool {
	entries, err := os.ReadDir(dir)
	isBlob := func(e fs.DirEntry) bool { return names.IsBlob(e.Name()) }
	return err == nil && slices.ContainsFunc(entries, isBlob)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// ReadPart reads a manifest, and lists its blobs.
func ReadPart(path string) (Part, error) {
	data, err := ReadManifest(path)
	if err != nil {
		return Part{}, err
	}
	blobs, err := registry.NewManifest(data, "").Blobs()
	if err != nil {
		return Part{}, fmt.Errorf("%s: %w", path, err)
	}
	return Part{Manifest: data, Blobs: blobs}, nil
}

// ReadManifest reads a manifest.
func ReadManifest(path string) ([]byte, error) {
	f, err := rootfile.OpenLinked(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = fmt.Errorf("%s: the manifest is larger than %d MiB", path, maxManifest>>20)
	}
	return data, err
}

// pathError names the file where an error does not.
func pathError(path string, err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		return err
	}
	return &fs.PathError{Op: "open", Path: path, Err: err}
}

// Model is a model of a directory.
type Model struct {
	Name  string // as it is named there
	Parts []Part // the last is the model; before it come the manifests that it lists
}

// OpenOCI returns the models of an OCI image layout: one, or the one of the name or digest wanted.
// Its blobs are added to the stage. It may name so many manifests at most; see [NewTree].
func (s *Stage) OpenOCI(dir, want string, most int) (Model, error) {
	data, err := ReadManifest(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return Model{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return Model{}, fmt.Errorf("%s: %w", filepath.Join(dir, ocispec.ImageIndexFile), err)
	}
	d, err := chooseOCI(dir, index, want)
	if err != nil {
		return Model{}, err
	}
	m := Model{Name: ociName(d)}
	tree := NewTree(most, func(dg string) (registry.Manifest, error) {
		return readBlobManifest(TreePath(dir, OCI, digest.Digest(dg)), digest.Digest(dg))
	})
	if err := tree.Add(d.Digest.String()); err != nil {
		return m, err
	}
	for _, one := range tree.All {
		part, err := s.collect(dir, one)
		if err != nil {
			return m, err
		}
		m.Parts = append(m.Parts, part)
	}
	return m, nil
}

// chooseOCI returns the one model of a layout, or the one of the name or digest wanted, which may have
// several names.
func chooseOCI(dir string, index ocispec.Index, want string) (ocispec.Descriptor, error) {
	var names, fitting []string
	var found []ocispec.Descriptor
	for _, d := range index.Manifests {
		names = append(names, ociName(d))
		if want == "" || want == ociName(d) || want == d.Digest.String() {
			found, fitting = append(found, d), append(fitting, d.Digest.String())
		}
	}
	other := func(d ocispec.Descriptor) bool { return d.Digest != found[0].Digest }
	if len(found) == 0 || slices.ContainsFunc(found, other) {
		return ocispec.Descriptor{}, choiceError(dir, want, names, fitting)
	}
	return found[0], nil
}

// ociName is what a layout calls a model.
func ociName(d ocispec.Descriptor) string {
	return cmp.Or(d.Annotations[ocispec.AnnotationRefName], d.Digest.String())
}

// readBlobManifest reads a manifest that is a blob.
func readBlobManifest(path string, dg digest.Digest) (registry.Manifest, error) {
	data, err := ReadManifest(path)
	if err != nil {
		return registry.Manifest{}, err
	}
	if got := dg.Algorithm().FromBytes(data); got != dg {
		return registry.Manifest{}, fmt.Errorf("%w: %s is %s", transfer.ErrDigestMismatch, path, got)
	}
	m := registry.NewManifest(data, "")
	m.Digest = dg.String()
	return m, nil
}

// collect adds the blobs of a manifest of a layout.
func (s *Stage) collect(dir string, m registry.Manifest) (Part, error) {
	part := Part{Manifest: m.Data}
	if m.IsIndex() {
		return part, nil
	}
	var err error
	if part.Blobs, err = m.Blobs(); err != nil {
		return part, fmt.Errorf("%s: %w", TreePath(dir, OCI, digest.Digest(m.Digest)), err)
	}
	for _, b := range part.Blobs {
		dg := digest.Digest(b.Digest)
		if err := s.add(TreePath(dir, OCI, dg), dg); err != nil {
			return part, fmt.Errorf("a blob of the manifest is missing: %w", err)
		}
	}
	return part, nil
}

// OpenOllama returns a model of an Ollama directory: the only one, or the one of the name wanted,
// "name:tag" with or without what comes before it. Its blobs are in dir/blobs.
func OpenOllama(dir, want string) (Model, error) {
	names, _, err := ollamaNames(dir)
	if err != nil {
		return Model{}, err
	}
	var found []string
	for _, name := range names {
		if want == "" || name == want || strings.HasSuffix(name, "/"+want) ||
			strings.HasSuffix(name, "/"+want+":latest") {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return Model{}, choiceError(dir, want, names, found)
	}
	part, err := ReadPart(ollamaPath(dir, found[0]))
	return Model{Name: found[0], Parts: []Part{part}}, err
}

// ollamaPath is where an Ollama directory has the manifest of a model.
func ollamaPath(dir, name string) string {
	i := strings.LastIndexByte(name, ':')
	return filepath.Join(dir, "manifests", filepath.FromSlash(name[:i]), name[i+1:])
}

// ollamaNames lists the models of an Ollama directory: host/namespace/name:tag. Unknown is a link in it that
// leads to no file: Ollama knows models behind it, and they are not listed.
func ollamaNames(dir string) (names []string, unknown string, err error) {
	manifests := filepath.Join(dir, "manifests")
	err = fs.WalkDir(os.DirFS(manifests), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		file := filepath.Join(manifests, filepath.FromSlash(name))
		switch is := isFile(file); {
		case is && strings.Contains(name, "/"):
			names = append(names, path.Dir(name)+":"+path.Base(name))
		case !is && d.Type() == fs.ModeSymlink:
			unknown = file
		}
		return nil
	})
	slices.Sort(names)
	return names, unknown, err
}

// choiceError says what there is to choose from: of all names, those that fit what was wanted.
func choiceError(dir, want string, names, fitting []string) error {
	switch {
	case len(names) == 0:
		return fmt.Errorf("%s: %w", dir, ErrEmpty)
	case len(fitting) > 1 && want != "":
		return fmt.Errorf(
			"%s: %w, and %q fits %s; say more of the name", dir, ErrChoice, want, ListOf(fitting),
		)
	case want != "":
		return fmt.Errorf("%s: %w: %q; it has %s", dir, ErrNoModel, want, ListOf(names))
	}
	return fmt.Errorf("%s: %w: %s", dir, ErrChoice, ListOf(names))
}

// ListOf lists the first of many names.
func ListOf(names []string) string {
	const most = 20
	list := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		list += ", ..."
	}
	return list
}

// References are the blobs that the models of a directory name.
type References struct {
	Blobs     []transfer.Blob // each once
	Manifests map[string]bool // those that are listed as manifests, by digest
	Partly    bool            // a manifest is missing or damaged: what it names is not known
}

// Referenced lists the blobs that the models of an OCI layout or of Ollama's models directory name; in a
// layout the manifests are blobs too. There may be so many manifests at most; 0 means [defaultManifests].
func Referenced(dir string, kind Kind, most int) (References, error) {
	w := walker{dir: dir, most: cmp.Or(most, defaultManifests), listed: map[string]bool{}}
	if kind == OCI {
		data, err := ReadManifest(filepath.Join(dir, ocispec.ImageIndexFile))
		if err == nil {
			err = w.walk(data)
		}
		return References{Distinct(w.blobs), w.listed, w.partly}, err
	}
	names, unknown, err := ollamaNames(dir)
	if err == nil && unknown != "" {
		err = fmt.Errorf("%s: %w: which models it has is not known", unknown, ErrNotRegular)
	}
	for _, name := range names {
		part, err := ReadPart(ollamaPath(dir, name))
		if err != nil {
			return References{}, err
		}
		w.blobs = append(w.blobs, part.Blobs...)
	}
	return References{Blobs: Distinct(w.blobs)}, err
}

// walker lists what a layout names.
type walker struct {
	dir    string
	blobs  []transfer.Blob
	partly bool

	most    int
	size    int64           // of the manifests that were read
	listed  map[string]bool // as manifests: what is one may be named as a layer too
	waiting []digest.Digest // manifests that were not read yet
}

// walk lists what an index names, and what that names, however deep.
func (w *walker) walk(index []byte) error {
	for err := w.add(index); ; err = w.next() {
		if err != nil || len(w.waiting) == 0 {
			return err
		}
	}
}

// next reads a manifest that is waiting.
func (w *walker) next() error {
	dg := w.waiting[0]
	w.waiting = w.waiting[1:]
	data, err := ReadManifest(TreePath(w.dir, OCI, dg))
	if err != nil || dg.Algorithm().FromBytes(data) != dg {
		w.partly = true
		return nil // that it is wrong is found where it is hashed
	}
	if w.size += int64(len(data)); w.size > int64(w.most)*manifestBytes {
		return &limit.Error{Limit: limit.Manifests, Most: int64(w.most)}
	}
	return w.add(data)
}

// add adds what a manifest or index names.
func (w *walker) add(data []byte) error {
	content, err := registry.NewManifest(data, "").Content()
	if err != nil {
		return err
	}
	if content.Config != nil {
		w.blobs = append(w.blobs, content.Config.Blob())
	}
	for _, l := range content.Layers {
		w.blobs = append(w.blobs, l.Blob())
	}
	for _, d := range content.Manifests {
		w.blobs = append(w.blobs, d.Blob())
		if w.listed[d.Digest] {
			continue
		}
		w.listed[d.Digest] = true
		w.waiting = append(w.waiting, digest.Digest(d.Digest))
		if len(w.listed) > w.most {
			return &limit.Error{Limit: limit.Manifests, Most: int64(w.most)}
		}
	}
	return nil
}
