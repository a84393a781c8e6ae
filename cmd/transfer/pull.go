package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

// intoAuto is the value of --into that leaves the form to the model.
const intoAuto = "auto"

// pullFlags are the flags that only pull has.
type pullFlags struct {
	model.PullOptions
	into    string
	mirrors urlList
	limits  limits
}

func pullCommand(a *app) *cobra.Command {
	var o pullFlags
	c := &cobra.Command{
		Use: "pull REF [DIR]", Short: "Fetch a model into a directory", GroupID: "move",
		Long: "Pull fetches a model into DIR, by default the model's name: its files under their names " +
			"where it has names, otherwise its blobs as sha256-... with their manifest.json. What is there " +
			"already is not fetched again: after a failure or Ctrl-C, run the same command again.",
		Example: "  transfer pull all-minilm ./all-minilm\n" +
			"  transfer pull --reuse ~/models/v1.gguf registry.example/me/model:v2 ./model\n" +
			"  transfer pull --include '*.json' registry.example/me/model:v1 ./model\n" +
			"  transfer pull --into ollama all-minilm ~/.ollama/models\n" +
			"  transfer pull --mirror https://mirror.example registry.example/me/m ./model",
		Args: pullOperands,
		RunE: func(cmd *cobra.Command, args []string) error { return pull(cmd.Context(), a, args, o) },
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(
		&o.into, "into", intoAuto,
		"`FORM` of DIR: files, blobs, oci (an OCI layout) or ollama (its models directory)",
	)
	fs.Lookup("into").DefValue = "" // what is done without it is said above
	fs.StringArrayVar(&o.Include, "include", nil, "fetch only files that match `PATTERN`; may be repeated")
	fs.StringArrayVar(&o.Exclude, "exclude", nil, "leave out files that match `PATTERN`; may be repeated")
	fs.StringVar(&o.Platform, "platform", "", "of an index, the manifest for this `OS/ARCH`")
	fs.BoolVar(&o.Verify, "verify", false, "hash what is there, and repair what is wrong")
	fs.BoolVar(&o.Keep, "keep", false, "leave files that you have edited or made")
	fs.BoolVar(&o.Delete, "delete", false, "remove files of an earlier model that this one has not")
	fs.BoolVar(&o.DryRun, "dry-run", false, "only tell what would be fetched and changed")
	fs.StringArrayVar(
		&o.Reuse, "reuse", nil,
		"`FILE` or directory that may hold parts of the model, such as another version; may be repeated",
	)
	fs.Var(&o.mirrors, "mirror", "ask the registry at this `URL` first; may be repeated")
	o.limits.addUnpacking(fs)
	o.limits.addManifests(fs)
	return c
}

// pullOperands refuses operands in the wrong order: push takes the reference last and pull first, so people
// swap them. A directory that exists is in its right place whatever its name looks like.
func pullOperands(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		return nil
	case 2:
	default:
		return usagef("pull takes REF [DIR]")
	}
	if args[1] == "" {
		return usagef("DIR is empty; . is the current directory")
	}
	info, err := os.Stat(args[0])
	_, otherErr := os.Stat(args[1])
	isDir := err == nil && info.IsDir() || looksLikeDir(args[0])
	swapped := isDir && strings.ContainsAny(args[1], "/:") || !hasHost(args[0]) && hasHost(args[1])
	if otherErr != nil && swapped {
		return usagef("pull takes the reference first: transfer pull %s %s", args[1], args[0])
	}
	return nil
}

// looksLikeDir tells a path from a reference.
func looksLikeDir(s string) bool {
	return s == "." || s == ".." || filepath.IsAbs(s) ||
		strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
}

// hasHost tells whether an operand is a reference that names its registry.
func hasHost(s string) bool {
	if looksLikeDir(s) {
		return false
	}
	_, err := ref.ParseRepository(s)
	host, _, below := strings.Cut(s, "/")
	return err == nil && (strings.Contains(s, "://") || below && ref.IsHost(host))
}

// pull fetches the model of a reference into a directory.
func pull(ctx context.Context, a *app, args []string, o pullFlags) error {
	r, err := a.reference(args[0])
	if err != nil {
		return err
	}
	dir := path.Base(r.Repository)
	switch {
	case len(args) == 2:
		dir = args[1]
	case o.into == string(model.Ollama):
		return usagef("--into ollama needs DIR, such as ~/.ollama/models")
	}
	start := time.Now()
	result, err := o.fetch(ctx, a, r, dir)
	switch {
	case err != nil:
		return wrongOption(choice(r, err), "into")
	case o.DryRun:
		tellPlanned(a, "pull", fmt.Sprintf("%s to %s", r, dir), result)
		return nil
	}
	if result.Unnamed > 0 {
		a.say("left out %s without a name; --into blobs fetches all", plural(result.Unnamed, "layer"))
	}
	done := outcomeOf(result)
	done.what, done.whole = pulledOf(result), time.Since(start)
	tellMoved(a, "pulled", dir, r, digest.Digest(result.Digest), done)
	return nil
}

// fetch fetches a model as the flags say, and tells what becomes of files that were there.
func (o *pullFlags) fetch(ctx context.Context, a *app, r ref.Reference, dir string) (model.Result, error) {
	var err error
	j := newJob(a, "pull")
	if o.Options, err = j.options(r); err != nil {
		return model.Result{}, err
	}
	o.Mirrors, o.Limits = o.mirrors, o.limits.model()
	if o.into != intoAuto {
		o.Form = model.Form(o.into)
	}
	result, err := model.Pull(ctx, r.URL(), dir, o.PullOptions)
	j.close()
	o.tell(a, result)
	return result, err
}

// tell says what was decided about the model and the files that were there, also of a pull that has failed
// then.
func (o *pullFlags) tell(a *app, r model.Result) {
	if o.Platform != "" && r.Platform == "" && r.Digest != "" && r.Form != "" {
		a.noChoice(r.Reference, o.Platform)
	}
	tellChanges(a, r.Changes, o.DryRun)
}

// noChoice says that --platform has nothing to choose from.
func (a *app) noChoice(r ref.Reference, platform string) {
	a.note("%s is no index of platforms; --platform %s chooses nothing", r, platform)
}

// choice says what there is to choose from where an error is about that.
func choice(r ref.Reference, err error) error {
	index, ok := errors.AsType[*model.PlatformError](err)
	if !ok {
		return err
	}
	var platforms []string
	for _, d := range index.Manifests {
		if platformName.MatchString(d.Platform) && d.Platform != noPlatform {
			platforms = append(platforms, d.Platform)
		}
	}
	switch {
	case len(platforms) > 0:
		return fmt.Errorf("%w; choose with --platform %s", err, strings.Join(platforms, ", "))
	case len(index.Manifests) > 0:
		one := r.WithDigest(digest.Digest(index.Manifests[0].Digest))
		return fmt.Errorf("%w; choose one by its digest, such as %s", err, one)
	}
	return err
}

// platformName is what a platform looks like. Who reads another may type it into a shell.
var platformName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.-]*(/[0-9A-Za-z_.-]+)*$`)

// noPlatform is what attestations of docker buildx have, which nobody wants to choose.
const noPlatform = "unknown/unknown"

// flagOf has the flags by what package model calls an option.
var flagOf = map[string]string{
	"Include": "include", "Exclude": "exclude", "Reuse": "reuse", "Dir": "dir",
	"Model": "model", "Tar": "tar", "ArtifactType": "artifact-type", "MediaType": "media-type",
	"Annotations": "annotation", "FollowLinks": "follow-links",
	"adapter": "adapter", "projector": "projector", "template": "template", "system": "system",
	"params": "params", "license": "license",
	"Limits.Bytes": "max-unpacked", "Limits.Files": "max-files", "Limits.Depth": "max-depth",
	"Limits.Manifests": "max-manifests",
}

// wrongOption is an option that cannot be, by the name of its flag, where an error is about that. form is the
// flag that the command has for Form.
func wrongOption(err error, form string) error {
	wrong, ok := errors.AsType[*model.OptionError](err)
	if !ok {
		return err
	}
	flag, problem := flagOf[wrong.Option], wrong.Problem
	if wrong.Option == "Form" {
		flag = form
	}
	if wrong.Form != "" {
		problem = fmt.Sprintf("is for --%s %s", form, wrong.Form)
	}
	if flag != "" {
		problem = "--" + flag + " " + problem
	}
	return usagef("%s", problem)
}
