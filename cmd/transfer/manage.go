package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func tagCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "tag REF TAG...", Short: "Give a model of a registry more tags", GroupID: "move",
		Long:    "Tag gives the manifest that REF names other tags in its repository. Nothing else moves.",
		Example: "  transfer tag registry.example/me/model:v1 v1.0 latest",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("tag takes REF and TAG...")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return manager{a}.tag(cmd.Context(), args[0], args[1:])
		},
	}
}

// manager changes what a registry has.
type manager struct{ *app }

func (a manager) tag(ctx context.Context, name string, tags []string) error {
	r, err := a.reference(name)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		// Any name will do before it. With an @ or a / it would parse too, but as more than a tag.
		if _, err := ref.Parse("registry.example/a:" + tag); err != nil || strings.ContainsAny(tag, "@/") {
			return usagef("%q is no tag", tag)
		}
	}
	return withRepository(a.app, r, true, func(repo *registry.Repository) error {
		m, err := repo.Manifest(ctx, r.Version())
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if err := repo.PutManifest(ctx, tag, m); err != nil {
				return err
			}
			tagged := r.Bare()
			tagged.Tag = tag
			if a.json {
				a.event("tagged", field{"reference", tagged.URL()}, field{"digest", m.Digest})
			}
			a.say("tagged %s as %s", m.Digest, tagged)
		}
		return nil
	})
}

func deleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "delete REF", Short: "Delete a tag, or a model by its digest", GroupID: "move",
		Long: "Delete deletes a tag, or with name@sha256:... the manifest of that digest and with it all " +
			"its tags. A registry gets back the space of blobs when it removes those that nothing names. " +
			"Some delete nothing, or no tags. The tag or digest must be said.",
		Example: "  transfer delete registry.example/me/model:v1\n" +
			"  transfer delete registry.example/me/model@sha256:...",
		Args: operands("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return manager{a}.delete(cmd.Context(), args[0])
		},
	}
}

// delete deletes what is named and nothing else: a name without a tag does not stand for latest here.
func (a manager) delete(ctx context.Context, name string) error {
	r, err := a.repositoryOf(name)
	if err != nil {
		return err
	}
	if r.Tag == "" && r.Digest == "" {
		return usagef("delete takes a tag or a digest: %s:TAG", name)
	}
	err = withRepository(a.app, r, true, func(repo *registry.Repository) error {
		return byDigest(ctx, repo, r, repo.Delete(ctx, r.Version()))
	})
	if err != nil {
		return err
	}
	if a.json {
		a.event("deleted", field{"reference", r.URL()})
	}
	a.say("deleted %s", r)
	return nil
}

// undeleted is a tag that a registry does not delete, and the model that it could.
type undeleted struct {
	error
	model ref.Reference
}

func (e *undeleted) Unwrap() error { return e.error }

// byDigest finds out what to delete where a registry deletes no tags, as distribution before version 3. Err
// is what it answered, or nil.
func byDigest(ctx context.Context, repo *registry.Repository, r ref.Reference, err error) error {
	status, ok := errors.AsType[*transfer.StatusError](err)
	if !ok || r.Digest != "" || status.StatusCode != http.StatusBadRequest &&
		status.StatusCode != http.StatusMethodNotAllowed {
		return err
	}
	m, failed := repo.Manifest(ctx, r.Version())
	if failed != nil { // most often there is no such tag
		return failed
	}
	return &undeleted{err, r.WithDigest(digest.Digest(m.Digest))}
}

func reposCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "repos REGISTRY", Short: "List the repositories of a registry", GroupID: "look",
		Long:    "Repos lists the repositories of a registry. Many public ones list none.",
		Example: "  transfer repos registry.example", Args: operands("REGISTRY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspector{a}.repos(cmd.Context(), args[0])
		},
	}
}

func (a inspector) repos(ctx context.Context, name string) error {
	r, err := a.registryOf(name)
	if err != nil {
		return err
	}
	o, err := registryOptions(a.app, r, registry.Options{})
	if err != nil {
		return err
	}
	for repository, err := range registry.Repositories(ctx, o) {
		if err != nil {
			return fmt.Errorf("%s: %w", r.Registry(), err)
		}
		if a.json {
			a.event("repository", field{"repository", repository})
		} else {
			a.print("%s", repository)
		}
	}
	return nil
}

func discoverCommand(a *app) *cobra.Command {
	var artifactType string
	c := &cobra.Command{
		Use: "discover REF", Short: "Show what refers to a model, such as signatures", GroupID: "look",
		Long: "Discover shows the manifests that refer to a model, and what refers to those, as a tree of " +
			"digests and artifact types.",
		Example: "  transfer discover registry.example/me/model:v1", Args: operands("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspector{a}.discover(cmd.Context(), args[0], artifactType)
		},
	}
	c.Flags().StringVar(&artifactType, "artifact-type", "", "show only those of this `TYPE`")
	return c
}

func (a inspector) discover(ctx context.Context, name, artifactType string) error {
	r, err := a.reference(name)
	if err != nil {
		return err
	}
	d := discovery{inspector: a, artifactType: artifactType, seen: map[string]bool{}}
	err = withRepository(a.app, r, false, func(repo *registry.Repository) error {
		m, err := repo.Manifest(ctx, r.Version())
		if err != nil {
			return err
		}
		if !a.json {
			a.print("%s  %s", m.Digest, r)
		}
		d.repo, d.seen[m.Digest] = repo, true
		return d.show(ctx, m.Digest, "")
	})
	switch {
	case err != nil:
		return err
	case len(d.seen) > 1:
	case artifactType != "":
		a.note("nothing of type %s refers to it", artifactType)
	default:
		a.note("nothing refers to it")
	}
	return nil
}

// maxReferrers is how many are shown: whoever may push can make a tree without end.
const maxReferrers = 512

var errTooMany = fmt.Errorf("more than %d manifests refer to it; --artifact-type shows those of one type",
	maxReferrers)

// discovery walks through what refers to a manifest.
type discovery struct {
	inspector
	repo         *registry.Repository
	artifactType string
	seen         map[string]bool // by digest, the model included
}

// show shows what refers to a manifest, below it.
func (d discovery) show(ctx context.Context, subject, indent string) error {
	list, err := d.repo.Referrers(ctx, subject, d.artifactType)
	if err != nil {
		return err
	}
	for i, one := range list {
		branch, below := "├── ", "│   "
		if i == len(list)-1 {
			branch, below = "└── ", "    "
		}
		if d.json {
			d.event("referrer", field{"subject", subject}, field{"digest", one.Digest},
				field{"size", one.Size}, field{"mediaType", one.MediaType},
				field{"artifactType", one.ArtifactType})
		} else {
			d.print("%s%s%s  %s", indent, branch, one.Digest, one.ArtifactType)
		}
		if d.seen[one.Digest] { // such as a ring, which only a registry that lies can answer with
			continue
		}
		d.seen[one.Digest] = true
		if len(d.seen) > maxReferrers {
			return errTooMany
		}
		if err := d.show(ctx, one.Digest, indent+below); err != nil {
			return err
		}
	}
	return nil
}

func attachCommand(a *app) *cobra.Command {
	var o pushFlags
	c := &cobra.Command{
		Use: "attach REF PATH...", GroupID: "move",
		Short: "Send files that refer to a model, such as a signature",
		Long: "Attach sends files as an artifact of their own whose subject is the model that REF names. " +
			"Discover shows it, and copy takes it along.",
		Example: "  transfer attach --artifact-type application/x.sig registry.example/me/m m.sig",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("attach takes REF and PATH...")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return attachFiles(cmd.Context(), a, args[0], args[1:], o)
		},
	}
	o.addArtifact(c.Flags(), "")
	return c
}

// attachFiles sends files that refer to the model of a reference.
func attachFiles(ctx context.Context, a *app, name string, paths []string, o pushFlags) error {
	r, err := a.reference(name)
	if err != nil {
		return err
	}
	result, err := send(a, r, paths, o, func(o model.PushOptions) (model.Result, error) {
		return model.Attach(ctx, paths, r.URL(), o)
	})
	if err != nil {
		return err
	}
	tellMoved(a, "attached", strings.Join(paths, " "), r, digest.Digest(result.Digest), outcomeOf(result))
	return nil
}
