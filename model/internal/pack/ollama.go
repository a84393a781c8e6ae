package pack

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Ollama's registry.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	ollamaPrefix   = "application/vnd.ollama.image."
)

// OllamaParts are the files of an Ollama model besides the model itself, by the end of their media types.
var OllamaParts = []string{"adapter", "projector", "template", "system", "params", "license"}

// ollamaConfig is the config of an Ollama model.
type ollamaConfig struct {
	ModelFormat   string   `json:"model_format"`
	ModelFamily   string   `json:"model_family,omitempty"`
	ModelFamilies []string `json:"model_families,omitempty"`
	Architecture  string   `json:"architecture"`
	OS            string   `json:"os"`
	RootFS        rootFS   `json:"rootfs"`
}

type rootFS struct {
	Type    string          `json:"type"`
	DiffIDs []digest.Digest `json:"diff_ids"`
}

// ollamaManifest keeps the order of fields that Ollama writes, and has no annotations.
type ollamaManifest struct {
	specs.Versioned
	MediaType string               `json:"mediaType"`
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
}

// Ollama returns the manifest of an Ollama model: a GGUF file and the files of its other parts, by
// the names of [OllamaParts].
func (s *Stage) Ollama(
	ctx context.Context, model File, dg digest.Digest, parts map[string][]string,
) (Part, error) {
	family, err := ggufArchitecture(model.Path)
	if err != nil {
		return Part{}, fmt.Errorf("%s: %w", model.Path, err)
	}
	if err := s.add(model.Path, dg); err != nil {
		return Part{}, err
	}
	layers := []ocispec.Descriptor{{MediaType: ollamaPrefix + "model", Digest: dg, Size: model.Info.Size()}}
	for _, kind := range OllamaParts {
		for _, path := range parts[kind] {
			layer, err := s.ollamaPart(ctx, kind, path)
			if err != nil {
				return Part{}, err
			}
			layers = append(layers, layer)
		}
	}
	config := ollamaConfig{ModelFormat: "gguf", ModelFamily: family, Architecture: "amd64", OS: "linux"}
	if family != "" {
		config.ModelFamilies = []string{family}
	}
	config.RootFS.Type = "layers"
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	return s.ollamaPartOf(config, layers)
}

// ollamaPart adds one file.
func (s *Stage) ollamaPart(ctx context.Context, kind, path string) (ocispec.Descriptor, error) {
	if kind == "params" {
		data, err := ReadManifest(path) // no larger than a manifest either
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if !json.Valid(data) {
			return ocispec.Descriptor{}, fmt.Errorf(`%s: not JSON, such as {"temperature": 0.7}`, path)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	dg, err := HashFile(ctx, path, digest.Canonical)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: ollamaPrefix + kind, Digest: dg, Size: info.Size()}, s.add(path, dg)
}

func (s *Stage) ollamaPartOf(config ollamaConfig, layers []ocispec.Descriptor) (Part, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return Part{}, err
	}
	c, err := s.addBytes(dockerConfig, data)
	if err != nil {
		return Part{}, err
	}
	return newPart(ollamaManifest{specs.Versioned{SchemaVersion: 2}, dockerManifest, c, layers}, c, layers)
}
