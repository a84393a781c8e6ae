// Package unpack gives the blobs of a model their place in a directory: what pull leaves behind.
package unpack

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/pack"
	"github.com/modeltransfer/transfer/registry"
)

var (
	// ErrTitle is a file name that leads out of the directory, or that two files share.
	ErrTitle = errors.New("refused file name")

	// ErrPacked is an archive that cannot be unpacked.
	ErrPacked = errors.New("not a tar archive, plain or by gzip or zstd; --into blobs fetches it as it is")

	// ErrPattern is a malformed pattern.
	ErrPattern = errors.New("malformed pattern")
)

// Entry is a layer with the name that its content gets.
type Entry struct {
	Title   string // with slashes, inside the directory
	Layer   registry.Descriptor
	Archive bool // it is unpacked: a tar archive, which may be compressed
}

// Media types of the layers of Ollama's models, and the names that their files get.
var ollamaNames = map[string]string{
	"application/vnd.ollama.image.model":     "model.gguf",
	"application/vnd.ollama.image.adapter":   "adapter.gguf",
	"application/vnd.ollama.image.projector": "projector.gguf",
	"application/vnd.ollama.image.template":  "template.txt",
	"application/vnd.ollama.image.system":    "system.txt",
	"application/vnd.ollama.image.params":    "params.json",
	"application/vnd.ollama.image.messages":  "messages.json",
	"application/vnd.ollama.image.license":   "LICENSE",
}

// Titled tells whether a layer says what file it is.
func Titled(c registry.Content) bool {
	for _, l := range c.Layers {
		if titleOf(l) != "" {
			return true
		}
	}
	return false
}

func titleOf(d registry.Descriptor) string {
	if t := d.Annotations[pack.FilepathAnnotation]; t != "" {
		return t
	}
	return d.Title()
}

// Entries lists the layers that have a name, and how many have none. Names that lead out of the
// directory are refused, and so are two layers of one name that differ.
func Entries(c registry.Content) (entries []Entry, unnamed int, err error) {
	taken := make(map[string]registry.Descriptor, len(c.Layers))
	for _, l := range c.Layers {
		title := titleOf(l)
		if title == "" {
			title = ollamaName(l.MediaType, taken)
		}
		if title == "" {
			unnamed++
			continue
		}
		if title, err = checkTitle(title); err != nil {
			return nil, 0, err
		}
		if first, ok := taken[title]; ok {
			if first.Digest != l.Digest {
				return nil, 0, fmt.Errorf("%w: %q is the name of two different files", ErrTitle, title)
			}
			continue
		}
		if isArchive(l) && !knownPacking(l.MediaType) {
			return nil, 0, fmt.Errorf("%q: %s: %w", title, l.MediaType, ErrPacked)
		}
		taken[title] = l
		entries = append(entries, Entry{Title: title, Layer: l, Archive: isArchive(l)})
	}
	return entries, unnamed, nil
}

// ollamaName numbers what comes more than once, such as licences.
func ollamaName(mediaType string, taken map[string]registry.Descriptor) string {
	name := ollamaNames[mediaType]
	if name == "" {
		return ""
	}
	extension := path.Ext(name)
	for n, numbered := 2, name; ; n++ {
		if _, ok := taken[numbered]; !ok {
			return numbered
		}
		numbered = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, extension), n, extension)
	}
}

// checkTitle returns a title in its shortest form.
func checkTitle(title string) (string, error) {
	clean := path.Clean(title)
	local := filepath.FromSlash(clean)
	switch {
	case strings.ContainsAny(title, "\x00\r\n"), clean == ".", path.IsAbs(title), !filepath.IsLocal(local):
		return "", fmt.Errorf("%w: %.200q leads out of the directory", ErrTitle, title)
	case filepath.Separator != '\\' && strings.Contains(title, `\`):
		return "", fmt.Errorf("%w: %.200q has a backslash in it", ErrTitle, title)
	}
	if first, _, _ := strings.Cut(clean, "/"); strings.EqualFold(first, pack.StateDir) {
		return "", fmt.Errorf("%w: %.200q is kept for this program", ErrTitle, title)
	}
	return clean, nil
}

// isArchive tells the archives that are to be unpacked: directories as oras packs them, whatever media type
// it was told to give them, and those of ModelPack. An image layer is a file.
func isArchive(d registry.Descriptor) bool {
	if d.Annotations[pack.UnpackAnnotation] == "true" {
		return true
	}
	kind, _, _ := strings.Cut(d.MediaType, "+")
	return strings.HasPrefix(kind, "application/vnd.cncf.model.") &&
		(strings.HasSuffix(kind, ".tar") || strings.HasSuffix(kind, ".tar.gzip"))
}

// knownPacking refuses an archive before it is fetched whose type names another compression.
func knownPacking(mediaType string) bool {
	_, packing, named := strings.Cut(mediaType, ".tar+")
	return !named || packing == "gzip" || packing == "zstd"
}

// Filter keeps the entries that match one of the patterns to include, where there are any, and none
// of those to exclude. A pattern matches a whole title, its last element, or a directory above it.
func Filter(entries []Entry, include, exclude []string) ([]Entry, error) {
	for _, pattern := range append(append([]string{}, include...), exclude...) {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("%w: %q", ErrPattern, pattern)
		}
	}
	var kept []Entry
	for _, e := range entries {
		if (len(include) == 0 || matches(include, e.Title)) && !matches(exclude, e.Title) {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

func matches(patterns []string, title string) bool {
	for _, pattern := range patterns {
		if ok, _ := path.Match(pattern, path.Base(title)); ok {
			return true
		}
		for t := title; t != "."; t = path.Dir(t) {
			if ok, _ := path.Match(strings.TrimSuffix(pattern, "/"), t); ok {
				return true
			}
		}
	}
	return false
}
