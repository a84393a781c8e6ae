package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/registry"
	"github.com/spf13/cobra"
)

func inspectCommand(a *app) *cobra.Command {
	var platform string
	var raw bool
	c := &cobra.Command{
		Use: "inspect REF", Short: "Show what a model consists of", GroupID: "look",
		Long: "Inspect shows the digest of a model and its layers with sizes and names, or the platforms " +
			"of an index. Nothing but manifests is fetched.",
		Example: "  transfer inspect all-minilm\n  transfer inspect --json registry.example/me/model:v1",
		Args:    operands("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspector{a}.inspect(cmd.Context(), args[0], platform, raw)
		},
	}
	c.Flags().StringVar(&platform, "platform", "", "of an index, show the manifest for this `OS/ARCH`")
	c.Flags().BoolVar(&raw, "raw", false, "print the manifest as the registry has it, and nothing else")
	return c
}

// inspector shows what a registry has.
type inspector struct{ *app }

func (a inspector) inspect(ctx context.Context, name, platform string, raw bool) error {
	r, err := a.reference(name)
	if err != nil {
		return err
	}
	o := model.InspectOptions{Platform: platform}
	if o.Options, err = newJob(a.app, "").options(r); err != nil {
		return err
	}
	d, err := model.Inspect(ctx, r.URL(), o)
	if platform != "" && d.Manifest.Data != nil && !d.Index {
		a.noChoice(r, platform)
	}
	switch {
	// What cannot be read as a manifest is what one most wants to see raw.
	case raw && (err == nil || errors.Is(err, registry.ErrManifest)):
		return a.inspectRaw(d.Manifest)
	case err != nil:
		return choice(r, err)
	case a.json:
		a.inspectJSON(d)
	default:
		a.inspectText(d)
	}
	return nil
}

// part is a layer, or a manifest of an index, in JSON.
type part struct {
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	MediaType string `json:"mediaType"`
	Name      string `json:"name,omitempty"`
	Platform  string `json:"platform,omitempty"`
}

// partOf has the name apart, because a layer's file may be named otherwise than by its own title.
func partOf(d registry.Descriptor, name string) part {
	return part{d.Digest, d.Size, d.MediaType, name, d.Platform}
}

func (a inspector) inspectJSON(d model.Description) {
	m, c := d.Manifest, d.Content
	fields := []field{
		{"reference", d.Reference.URL()}, {"digest", m.Digest}, {"mediaType", m.MediaType},
		{"artifactType", c.ArtifactType},
	}
	var parts []part
	if m.IsIndex() {
		for _, one := range c.Manifests {
			parts = append(parts, partOf(one, one.Title()))
		}
		fields = append(fields, field{"manifests", parts})
	} else {
		for i, layer := range c.Layers {
			parts = append(parts, partOf(layer, d.Files[i].Name))
		}
		if c.Config != nil {
			fields = append(fields, field{"config", partOf(*c.Config, c.Config.Title())})
		}
		fields = append(fields, field{"bytes", d.Bytes}, field{"layers", parts})
	}
	if len(c.Annotations) > 0 {
		fields = append(fields, field{"annotations", c.Annotations})
	}
	a.event("manifest", fields...)
}

// inspectRaw writes a manifest byte for byte. A terminal gets it in the same words without what it would
// obey.
func (a inspector) inspectRaw(m registry.Manifest) error {
	data := m.Data
	if a.terminal {
		data = printable.JSON(data)
	}
	_, err := a.stdout.Write(data)
	return err
}

func (a inspector) inspectText(d model.Description) {
	m, c := d.Manifest, d.Content
	lines := [][2]string{{"name", d.Reference.String()}, {"digest", m.Digest}, {"type", m.MediaType}}
	if c.ArtifactType != "" {
		lines = append(lines, [2]string{"artifact", c.ArtifactType})
	}
	if m.IsIndex() {
		lines = append(lines, [2]string{"lists", plural(len(c.Manifests), "manifest")})
	} else {
		size := formatBytes(d.Bytes) + " in " + plural(len(c.Layers), "layer")
		if c.Config != nil {
			size += " and a config"
		}
		if d.Sum > d.Bytes {
			size += fmt.Sprintf(
				"; those of the same content, %s more, count once", formatBytes(d.Sum-d.Bytes),
			)
		}
		lines = append(lines, [2]string{"size", size})
	}
	for _, l := range lines {
		a.print("%-9s %s", l[0], l[1])
	}
	if len(c.Manifests)+len(c.Layers) == 0 && c.Config == nil {
		return
	}
	a.print("")
	for _, d := range c.Manifests {
		a.print("%8s  %s  %s", formatBytes(d.Size), d.Digest, cmp.Or(d.Platform, "-"))
	}
	if c.Config != nil {
		a.print("%8s  %s", formatBytes(c.Config.Size), layerText(*c.Config, c.Config.Title()))
	}
	for i, layer := range c.Layers {
		a.print("%8s  %s", formatBytes(layer.Size), layerText(layer, d.Files[i].Name))
	}
}

// layerText is what a layer is known by: its digest, and its name or its type.
func layerText(d registry.Descriptor, name string) string {
	short := d.Digest
	if algorithm, hex, ok := strings.Cut(d.Digest, ":"); ok {
		short = algorithm + ":" + hex[:min(len(hex), 12)]
	}
	return short + "  " + cmp.Or(name, d.MediaType)
}

func tagsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "tags REPOSITORY", Short: "List the tags of a repository", GroupID: "look",
		Example: "  transfer tags registry.example/me/model", Args: operands("REPOSITORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspector{a}.tags(cmd.Context(), args[0])
		},
	}
}

func (a inspector) tags(ctx context.Context, name string) error {
	r, err := a.repositoryOf(name)
	if err != nil {
		return err
	}
	var tags []string
	err = withRepository(a.app, r, false, func(repo *registry.Repository) (err error) {
		tags, err = repo.Tags(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if a.json {
			a.event("tag", field{"tag", tag})
		} else {
			a.print("%s", tag)
		}
	}
	return nil
}
