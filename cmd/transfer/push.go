package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// typeAuto is the value of --type that leaves the form to the paths.
const typeAuto = "auto"

// pushFlags are the flags that only push has.
type pushFlags struct {
	model.PushOptions
	kind   string
	parts  map[string]*[]string // of an Ollama model, by ollamaParts
	limits limits
}

// ollamaParts are the flags of the files of an Ollama model besides its GGUF file, and what these have.
var ollamaParts = [][2]string{
	{"adapter", "an adapter (LoRA)"}, {"projector", "a projector"}, {"template", "the prompt template"},
	{"system", "the system prompt"}, {"params", "parameters (JSON)"}, {"license", "a license"},
}

func pushCommand(a *app) *cobra.Command {
	o := pushFlags{parts: map[string]*[]string{}}
	c := &cobra.Command{
		Use: "push PATH... REF", Short: "Send a model to a registry", GroupID: "move",
		Long: "Push sends files, or a directory as pull has made it: blobs with a manifest.json, an OCI " +
			"layout, or Ollama's models directory. What the registry has already is not sent again.",
		Example: "  transfer push model.gguf README.md registry.example/me/model:v1\n" +
			"  transfer push --type modelpack ./model registry.example/me/model:v1\n" +
			"  transfer push --type ollama model.gguf --template t.txt registry.example/me/m\n" +
			"  transfer push ~/.ollama/models --model llama3.2:1b registry.example/me/m",
		Args: pushOperands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return push(cmd.Context(), a, args[:len(args)-1], args[len(args)-1], o)
		},
	}
	o.add(c.Flags())
	return c
}

// add adds the flags.
func (o *pushFlags) add(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringVar(
		&o.kind, "type", typeAuto,
		"what to make of files: `TYPE` files (the default), modelpack (CNCF ModelPack) or ollama",
	)
	fs.Lookup("type").DefValue = "" // auto, which is files for files
	fs.StringVar(&o.Model, "model", "", "the model of this `NAME`, where a directory has several")
	fs.BoolVar(&o.Tar, "tar", false, "send each directory as one archive, as oras does")
	o.addArtifact(fs, ", for files")
	fs.StringArrayVar(
		&o.Exclude, "exclude", nil, "leave out files that match this `PATTERN`; may be repeated",
	)
	fs.BoolVar(&o.DryRun, "dry-run", false, "only tell what would be sent")
	fs.BoolVar(
		&o.FollowLinks, "follow-links", false,
		"send also files to which links lead that lead out of the directory",
	)
	o.limits.addManifests(fs)
	for _, part := range ollamaParts {
		o.parts[part[0]] = fs.StringArray(part[0], nil, "`FILE` with "+part[1]+", for ollama")
	}
}

// addArtifact adds the flags that describe an artifact of files, each with what it is for.
func (o *pushFlags) addArtifact(fs *pflag.FlagSet, what string) {
	fs.StringVar(&o.ArtifactType, "artifact-type", "", "`TYPE` of the artifact"+what)
	fs.StringVar(&o.MediaType, "media-type", "", "`TYPE` of each file"+what)
	fs.StringToStringVar(
		&o.Annotations, "annotation", nil, "annotation of the manifest, `KEY=VALUE`; may be repeated",
	)
	fs.Lookup("annotation").DefValue = "" // none
}

// pushOperands refuses operands in the wrong order, as pullOperands does.
func pushOperands(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return usagef("push takes PATH... and REF")
	}
	if slices.Contains(args, "") {
		return usagef("a PATH or REF is empty; . is the current directory")
	}
	_, missing := os.Stat(args[0])
	last, err := os.Stat(args[len(args)-1])
	if missing != nil && err == nil && (last.IsDir() || hasHost(args[0])) && len(args) == 2 {
		return usagef("push takes the directory first: transfer push %s %s", args[1], args[0])
	}
	return nil
}

// push sends files or a model to the repository of a reference.
func push(ctx context.Context, a *app, paths []string, name string, o pushFlags) error {
	r, err := a.reference(name)
	if err != nil {
		return err
	}
	o.PushOptions.Limits = o.limits.model()
	if o.kind != typeAuto {
		o.Form = model.Form(o.kind)
	}
	o.Parts = map[string][]string{}
	for part, files := range o.parts {
		o.Parts[part] = *files
	}
	start := time.Now()
	result, err := send(a, r, paths, o, func(o model.PushOptions) (model.Result, error) {
		return model.Push(ctx, paths, r.URL(), o)
	})
	what := strings.Join(paths, " ")
	if result.Form == model.Ollama {
		what = result.Model
	}
	switch {
	case err != nil:
		return err
	case o.DryRun:
		tellPlanned(a, "push", fmt.Sprintf("%s to %s", what, r), result)
		return nil
	}
	done := outcomeOf(result)
	done.whole = time.Since(start)
	tellMoved(a, "pushed", what, r, digest.Digest(result.Digest), done)
	return nil
}

// send sends paths as the flags say, and tells what was left out.
func send(
	a *app, r ref.Reference, paths []string, o pushFlags, call func(model.PushOptions) (model.Result, error),
) (model.Result, error) {
	j := newJob(a, "push")
	var err error
	if o.Options, err = j.options(r); err != nil {
		return model.Result{}, err
	}
	result, err := call(o.PushOptions)
	j.close()
	if result.Form != "" && result.Form != model.Files {
		a.source = paths[0]
	}
	for _, path := range result.LeftOut {
		if a.json {
			a.event("leftOut", field{"path", path})
		}
		a.say("left out %s", path)
	}
	return result, wayOut(wrongOption(err, "type"))
}

// tellMoved tells what was moved, and the digest to pin it by.
func tellMoved(a *app, verb, what string, r ref.Reference, dg digest.Digest, done outcome) {
	if a.json {
		a.event(verb, append([]field{{"reference", r.URL()}, {"digest", dg.String()}}, done.fields()...)...)
		return
	}
	if verb == "pulled" {
		a.say("pulled %s to %s: %s", r, what, done)
	} else {
		a.say("%s %s to %s: %s", verb, what, r, done)
	}
	a.say("digest %s", dg)
}

// wayOut says what to do about what is not sent.
func wayOut(err error) error {
	switch {
	case errors.Is(err, model.ErrLink):
		return fmt.Errorf("%w; --follow-links sends that, --exclude leaves the link out", err)
	case errors.Is(err, model.ErrNotRegular):
		return fmt.Errorf("%w; --exclude leaves it out", err)
	case errors.Is(err, model.ErrChoice):
		return fmt.Errorf("%w; name one with --model", err)
	}
	return err
}
