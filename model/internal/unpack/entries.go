// Package unpack gives the blobs of a model their place in a directory: what pull leaves behind.
package unpack

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/registry"
)

// ErrPacked is an archive that cannot be unpacked.
var ErrPacked = errors.New("not a tar archive, plain or by gzip or zstd")

// Entry is a layer with the name that its content gets.
type Entry struct {
	Title   string // with slashes, inside the directory; "." of an archive that is the whole directory
	Layer   registry.Descriptor
	Archive bool        // it is unpacked: a tar archive, which may be compressed
	Mode    fs.FileMode // permissions where the model says some, or 0
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
	return slices.ContainsFunc(c.Layers, func(l registry.Descriptor) bool { return pack.TitleOf(l) != "" })
}

// Entries lists the layers that have a name, and says how many have none, and which are left out on both
// sides. Names that are refused fail all, and so do two layers of one name that differ.
func Entries(c registry.Content) (entries []Entry, unnamed int, err error) {
	taken := make(map[string]string, len(c.Layers))
	numbers := map[string]int{}
	for _, l := range c.Layers {
		title := pack.TitleOf(l)
		if title == "" {
			title = ollamaName(l.MediaType, taken, numbers)
		}
		if title == "" {
			unnamed++
			continue
		}
		e, err := newEntry(title, l)
		if err != nil {
			return nil, 0, err
		}
		first, again := taken[e.Title]
		switch {
		case names.LeftOut(e.Title) || again && first == l.Digest:
			continue
		case again:
			return nil, 0, fmt.Errorf("%w: %.200q is the name of two different files", names.ErrName, e.Title)
		}
		taken[e.Title] = l.Digest
		entries = append(entries, e)
	}
	return entries, unnamed, nil
}

// newEntry checks a layer of a title.
func newEntry(title string, l registry.Descriptor) (Entry, error) {
	e := Entry{Title: ".", Layer: l, Archive: isArchive(l), Mode: pack.ModeOf(l)}
	var err error
	if !e.Archive || path.Clean(title) != "." { // "oras push REF ." packs a whole directory
		e.Title, err = names.Check(title)
	}
	if err == nil && e.Archive && !knownPacking(l.MediaType) {
		err = fmt.Errorf("%.200q: %.200s: %w", title, l.MediaType, ErrPacked)
	}
	return e, err
}

// ollamaName numbers what comes more than once, such as licences.
func ollamaName(mediaType string, taken map[string]string, numbers map[string]int) string {
	name := ollamaNames[mediaType]
	if name == "" {
		return ""
	}
	extension := path.Ext(name)
	for {
		numbers[name]++
		numbered := name
		if n := numbers[name]; n > 1 {
			numbered = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, extension), n, extension)
		}
		if _, ok := taken[numbered]; !ok {
			return numbered
		}
	}
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
// of those to exclude (see [names.Match]).
func Filter(entries []Entry, include, exclude []string) []Entry {
	var kept []Entry
	for _, e := range entries {
		if (len(include) == 0 || names.Match(include, e.Title)) && !names.Match(exclude, e.Title) {
			kept = append(kept, e)
		}
	}
	return kept
}
