package pack

import (
	"cmp"
	"encoding/json"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types and annotations of the CNCF ModelPack specification.
const (
	modelPackManifest = "application/vnd.cncf.model.manifest.v1+json"
	modelPackConfig   = "application/vnd.cncf.model.config.v1+json"
	modelPackPrefix   = "application/vnd.cncf.model."

	// FilepathAnnotation is the path of a file in a ModelPack model.
	FilepathAnnotation = "org.cncf.model.filepath"

	metadataAnnotation = "org.cncf.model.file.metadata+json"
	untestedAnnotation = "org.cncf.model.file.mediatype.untested"
)

// Kinds of files, as the media types call them.
const (
	kindWeight  = "weight"
	kindConfig  = "weight.config"
	kindDoc     = "doc"
	kindCode    = "code"
	kindDataset = "dataset"
)

// unknownWeight is the size from which on a file that nothing else is known of is taken for weights.
const unknownWeight = 128 << 20 // 128 MiB

// kinds tells the kind of a file by its extension.
var kinds = map[string][]string{
	kindWeight: {
		".safetensors", ".gguf", ".ggml", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5",
		".hdf5", ".keras", ".tflite",
		".pb", ".npy", ".npz", ".msgpack", ".mlmodel", ".engine", ".nemo", ".pkl", ".joblib",
	},
	kindConfig: {
		".json", ".jinja", ".model", ".tiktoken", ".vocab", ".yaml", ".yml", ".toml", ".ini", ".txt",
		".modelfile",
	},
	kindDoc: {".md", ".rst", ".pdf", ".html", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp"},
	kindCode: {".py", ".ipynb", ".sh", ".go", ".c", ".cc", ".cpp", ".h",
		".cu", ".rs", ".js", ".ts", ".java"},
	kindDataset: {".parquet", ".arrow", ".jsonl", ".csv", ".tsv", ".tfrecord"},
}

// kindOf returns the kind of a file, and whether it is known rather than guessed.
func kindOf(title string, size int64) (kind string, known bool) {
	base := strings.ToLower(path.Base(title))
	for _, prefix := range []string{"readme", "license", "licence", "notice", "usage_policy", "copying"} {
		if strings.HasPrefix(base, prefix) {
			return kindDoc, true
		}
	}
	if base == "modelfile" {
		return kindConfig, true
	}
	for kind, extensions := range kinds {
		if slices.Contains(extensions, path.Ext(base)) {
			return kind, true
		}
	}
	if size >= unknownWeight {
		return kindWeight, false
	}
	return kindConfig, false
}

// fileMetadata is what ModelPack keeps of a file besides its content. Owners and times are left out: they
// mean nothing on another machine.
type fileMetadata struct {
	Name     string    `json:"name"`
	Mode     uint32    `json:"mode"`
	UID      uint32    `json:"uid"`
	GID      uint32    `json:"gid"`
	Size     int64     `json:"size"`
	ModTime  time.Time `json:"mtime"`
	Typeflag byte      `json:"typeflag"`
}

// modelConfig is the config of a ModelPack manifest, as far as files tell it.
type modelConfig struct {
	Descriptor struct {
		Name string `json:"name,omitempty"`
	} `json:"descriptor"`
	Config struct {
		Format string `json:"format,omitempty"`
	} `json:"config"`
	ModelFS struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diffIds"`
	} `json:"modelfs"`
}

// ModelPack returns a CNCF ModelPack manifest of files, none of them archived or compressed. The
// title that oras reads is there too.
func (s *Stage) ModelPack(name string, files []File, digests []digest.Digest, o Options) (Part, error) {
	var c modelConfig
	c.Descriptor.Name, c.ModelFS.Type, c.ModelFS.DiffIDs = name, "layers", digests
	c.Config.Format = formatOf(files)
	layers := make([]ocispec.Descriptor, len(files))
	for i, f := range files {
		var err error
		if f.Info.IsDir() {
			layers[i], err = s.emptyDirectory(f.Title)
			layers[i].MediaType = modelPackPrefix + kindDoc + ".v1.tar+gzip"
			layers[i].Annotations[FilepathAnnotation] = f.Title
			digests[i] = layers[i].Digest
		} else {
			layers[i] = modelPackLayer(f, digests[i])
			err = s.add(f.Path, digests[i])
		}
		if err != nil {
			return Part{}, err
		}
	}
	data, err := json.Marshal(c)
	if err != nil {
		return Part{}, err
	}
	config, err := s.addBytes(modelPackConfig, data)
	if err != nil {
		return Part{}, err
	}
	return newPart(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: modelPackManifest, Config: config, Layers: layers, Annotations: o.Annotations,
	}, config, layers)
}

// metadataOf is what a manifest says of a file besides its content. The same files make the same manifest.
func metadataOf(f File) string {
	metadata, err := json.Marshal(fileMetadata{
		Name: path.Base(f.Title), Mode: uint32(f.Mode()), Size: f.Info.Size(), ModTime: time.Unix(0, 0).UTC(),
		Typeflag: '0',
	})
	if err != nil { // it has nothing that JSON has not
		return ""
	}
	return string(metadata)
}

// ModeOf returns the permissions that a manifest says a file had, or 0.
func ModeOf(d registry.Descriptor) fs.FileMode {
	var metadata fileMetadata
	if json.Unmarshal([]byte(d.Annotations[metadataAnnotation]), &metadata) != nil {
		return 0
	}
	return fs.FileMode(metadata.Mode).Perm()
}

// TitleOf is the name that a manifest gives a file, or "".
func TitleOf(d registry.Descriptor) string {
	return cmp.Or(d.Annotations[FilepathAnnotation], d.Title())
}

func modelPackLayer(f File, dg digest.Digest) ocispec.Descriptor {
	kind, known := kindOf(f.Title, f.Info.Size())
	annotations := map[string]string{
		FilepathAnnotation: f.Title, ocispec.AnnotationTitle: f.Title, metadataAnnotation: metadataOf(f),
		untestedAnnotation: "false",
	}
	if !known {
		annotations[untestedAnnotation] = "true"
	}
	return ocispec.Descriptor{
		MediaType: modelPackPrefix + kind + ".v1.raw", Digest: dg, Size: f.Info.Size(),
		Annotations: annotations,
	}
}

// formatOf names the format of the largest weights.
func formatOf(files []File) string {
	format, largest := "", int64(-1)
	for _, f := range files {
		if kind, known := kindOf(f.Title, 0); known && kind == kindWeight && f.size() > largest {
			format, largest = strings.TrimPrefix(path.Ext(f.Title), "."), f.Info.Size()
		}
	}
	return strings.ToLower(format)
}
