package main

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tree makes a directory of files, and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return dir
}

// filesOf are all files of a directory but those that are kept for the program.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == stateDir {
				return fs.SkipDir
			}
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(data)
		return err
	}))
	return files
}

var someFiles = map[string]string{
	"config.json": "{}", "model.safetensors": strings.Repeat("weights ", 10_000), "README.md": "# A model",
	"tokenizer/vocab.txt": "a\nb\n", "tokenizer/merges.txt": "a\nb\n", "empty.bin": "",
}

// must runs a command that has to succeed.
func must(t *testing.T, args ...string) result {
	t.Helper()
	r := runWith(t, args...)
	require.Equal(t, exitOK, r.code, "%v: %s", args, r.stderr)
	return r
}

func TestFilesArePushedAndPulledUnderTheirNames(t *testing.T) {
	for _, kind := range []string{"files", "modelpack"} {
		t.Run(kind, func(t *testing.T) {
			made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
			pushed := must(t, "push", "--type", kind, made, ref)
			pulled := filepath.Join(t.TempDir(), "new")
			got := must(t, "pull", ref, pulled)
			assert.Equal(t, someFiles, filesOf(t, pulled))
			pin := regexp.MustCompile(`(?m)^digest sha256:[0-9a-f]{64}$`)
			require.Regexp(t, pin, pushed.stdout)
			assert.Equal(t, pin.FindString(pushed.stdout), pin.FindString(got.stdout))
			assert.Contains(t, got.stdout, "6 files")
		})
	}
}

func TestASecondPushAndPullMoveNothing(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	pulled := t.TempDir()
	first := must(t, "push", made, ref)
	must(t, "pull", ref, pulled)
	again := must(t, "push", made, ref)
	assert.Contains(t, again.stdout, "all there already")
	digestOf := func(r result) string { return r.stdout[strings.Index(r.stdout, "digest "):] }
	assert.Equal(t, digestOf(first), digestOf(again))
	r := must(t, "pull", ref, pulled)
	assert.Contains(t, r.stdout, "all there already")
	assert.Empty(t, r.stderr)
}

func TestWhatWasPulledIsPushedAsItWas(t *testing.T) {
	made, base := tree(t, someFiles), startedServer(t).url+"/me/model"
	first := must(t, "push", made, base+":v1")
	pulled := t.TempDir()
	must(t, "pull", base+":v1", pulled)
	require.NoError(t, os.MkdirAll(filepath.Join(pulled, ".git"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(pulled, ".git", "HEAD"), nil, 0o600))
	second := must(t, "push", pulled, base+":v2")
	_, want, _ := strings.Cut(first.stdout, "digest ")
	assert.Contains(t, second.stdout, want)
}

func TestAFileThatHasChangedIsFetchedAgain(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, ref)
	for _, verify := range []string{"--verify=false", "--verify"} {
		pulled := t.TempDir()
		must(t, "pull", ref, pulled)
		path := filepath.Join(pulled, "model.safetensors")
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, make([]byte, info.Size()), 0o600))
		if verify == "--verify" { // damage that the time does not tell
			require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
		}
		must(t, "pull", verify, ref, pulled)
		assert.Equal(t, someFiles, filesOf(t, pulled))
	}
}

func TestFilesThatAreThereFromElsewhereAreNotFetched(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, ref)
	assert.Contains(t, must(t, "pull", ref, tree(t, someFiles)).stdout, "all there already")
}

func TestSomeFilesArePulled(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, ref)
	for _, test := range []struct {
		flags []string
		want  []string
	}{
		{[]string{"--include", "*.json"}, []string{"config.json"}},
		{[]string{"--include", "tokenizer/"}, []string{"tokenizer/merges.txt", "tokenizer/vocab.txt"}},
		{[]string{"--include", "*.txt", "--exclude", "tokenizer/v*"}, []string{"tokenizer/merges.txt"}},
		{
			[]string{"--exclude", "tokenizer", "--exclude", "*.bin"},
			[]string{"README.md", "config.json", "model.safetensors"},
		},
	} {
		pulled := t.TempDir()
		must(t, append([]string{"pull", ref, pulled}, test.flags...)...)
		assert.Equal(t, test.want, slices.Sorted(maps.Keys(filesOf(t, pulled))), "%v", test.flags)
	}
	r := runWith(t, "pull", "--include", "nothing", ref, t.TempDir())
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "no file matches; there are README.md, config.json")
	assert.Equal(t, exitUsage, runWith(t, "pull", "--include", "[", ref, t.TempDir()).code)
	assert.Equal(
		t, exitUsage, runWith(t, "pull", "--include", "*.json", "--into", "blobs", ref, t.TempDir()).code,
	)
}

func TestFilesThatWerePulledOneAfterTheOtherAreAllVerified(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, ref)
	pulled := t.TempDir()
	must(t, "pull", "--include", "*.json", ref, pulled)
	must(t, "pull", "--include", "*.md", ref, pulled)
	assert.Contains(t, must(t, "verify", pulled).stdout, "2 files")
}

func TestFilesAndDirectoriesArePushedTogether(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", filepath.Join(made, "README.md"), filepath.Join(made, "tokenizer"), ref)
	pulled := t.TempDir()
	must(t, "pull", ref, pulled)
	assert.Equal(
		t, []string{"README.md", "tokenizer/merges.txt", "tokenizer/vocab.txt"},
		slices.Sorted(maps.Keys(filesOf(t, pulled))),
	)
}

func TestADirectoryIsPushedAsAnArchive(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	first := must(t, "push", "--tar", filepath.Join(made, "tokenizer"), filepath.Join(made, "README.md"), ref)
	pulled := t.TempDir()
	must(t, "pull", ref, pulled)
	assert.Equal(
		t, []string{"README.md", "tokenizer/merges.txt", "tokenizer/vocab.txt"},
		slices.Sorted(maps.Keys(filesOf(t, pulled))),
	)
	assert.Contains(t, must(t, "pull", ref, pulled).stdout, "all there already")
	again := must(t, "push", "--tar", filepath.Join(made, "tokenizer"), filepath.Join(made, "README.md"), ref)
	assert.Contains(t, again.stdout, "all there already", first.stdout)
}

func TestLinksToFilesArePushedAsFiles(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	links := t.TempDir()
	link := filepath.Join(links, "linked.json")
	if err := os.Symlink(filepath.Join(made, "config.json"), link); err != nil {
		t.Skip(err)
	}
	must(t, "push", "--follow-links", links, ref)
	pulled := t.TempDir()
	must(t, "pull", ref, pulled)
	assert.Equal(t, map[string]string{"linked.json": "{}"}, filesOf(t, pulled))
}

func TestAnOCILayoutIsPulledAndPushed(t *testing.T) {
	made, s := tree(t, someFiles), startedServer(t)
	ref := s.url + "/me/model:v1"
	must(t, "push", made, ref)
	layout := t.TempDir()
	first := must(t, "pull", "--into", "oci", ref, layout)
	assert.FileExists(t, filepath.Join(layout, "oci-layout"))
	assert.NoDirExists(t, filepath.Join(layout, stateDir))
	for path := range filesOf(t, filepath.Join(layout, "blobs", "sha256")) {
		data, err := os.ReadFile(filepath.Join(layout, "blobs", "sha256", path))
		require.NoError(t, err)
		assert.Equal(t, path, digest.FromBytes(data).Encoded())
	}
	assert.Contains(t, must(t, "pull", "--into", "oci", ref, layout).stdout, "all there already")

	second := must(t, "push", layout, startedServer(t).url+"/you/model:v2")
	assert.Equal(
		t, first.stdout[strings.Index(first.stdout, "digest "):],
		second.stdout[strings.Index(second.stdout, "digest "):],
	)

	must(t, "copy", ref, s.url+"/me/model:again")
	must(t, "pull", "--into", "oci", s.url+"/me/model:again", layout)
	must(t, "push", layout, ref) // one model of two names

	must(t, "push", filepath.Join(made, "tokenizer"), s.url+"/me/other:v2")
	must(t, "pull", "--into", "oci", s.url+"/me/other:v2", layout)
	r := runWith(t, "push", layout, ref)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "v1, again, v2; name one with --model")
	must(t, "push", "--model", "v2", layout, ref)
}

func TestADamagedLayoutIsNotPushed(t *testing.T) {
	ref := startedServer(t).url + "/me/model:v1"
	must(t, "push", tree(t, someFiles), ref)
	layout := t.TempDir()
	must(t, "pull", "--into", "oci", ref, layout)
	index, err := os.ReadFile(filepath.Join(layout, "index.json"))
	require.NoError(t, err)
	_, hex, _ := strings.Cut(string(index), "sha256:")
	path := filepath.Join(layout, "blobs", "sha256", hex[:64])
	manifest, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(manifest, ' '), 0o600))
	r := runWith(t, "push", layout, ref)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "content does not match its digest: "+path)
}

func TestAnIndexIsPulledAndPushedWhole(t *testing.T) {
	s := startedServer(t)
	base := s.url + "/me/model"
	pushIndex(t, s, "me/model")
	layout, again := t.TempDir(), t.TempDir()
	must(t, "pull", "--into", "oci", base, layout)
	other := startedServer(t).url + "/you/model"
	must(t, "push", layout, other)
	must(t, "pull", "--into", "oci", other, again)
	assert.Equal(t, filesOf(t, layout), filesOf(t, again))

	one := t.TempDir()
	must(t, "pull", "--into", "oci", "--platform", "linux/arm64", base, one)
	assert.Len(t, filesOf(t, filepath.Join(one, "blobs", "sha256")), 3)
}

func TestAnOllamaModelIsMadePulledAndPushed(t *testing.T) {
	_, m := makeModel(t, demoModel{size: 4096, seed: 1})
	dir, _ := makeModel(t, demoModel{size: 4096, seed: 1})
	gguf := blobPath(dir, m.Layers[0].Digest)
	parts := tree(t, map[string]string{
		"template.txt": "{{ .Prompt }}",
		"params.json":  `{"temperature":0.7}`,
		"bad.json":     "{",
	})
	base := startedServer(t).url
	must(t, "push", "--type", "ollama", gguf, "--template", filepath.Join(parts, "template.txt"),
		"--params", filepath.Join(parts, "params.json"), base+"/library/tiny:1b")

	models := t.TempDir()
	must(t, "pull", "--into", "ollama", base+"/library/tiny:1b", models)
	host := strings.TrimPrefix(base, "http://")
	data, err := os.ReadFile(filepath.Join(models, "manifests", host, "library", "tiny", "1b"))
	require.NoError(t, err)
	var made manifest
	require.NoError(t, json.Unmarshal(data, &made))
	var types []string
	for _, l := range made.Layers {
		types = append(types, strings.TrimPrefix(l.MediaType, "application/vnd.ollama.image."))
		assert.FileExists(t, blobPath(filepath.Join(models, "blobs"), l.Digest))
	}
	assert.Equal(t, []string{"model", "template", "params"}, types)
	config, err := os.ReadFile(blobPath(filepath.Join(models, "blobs"), made.Config.Digest))
	require.NoError(t, err)
	assert.Contains(t, string(config), `"model_family":"demo"`)

	files := t.TempDir()
	must(t, "pull", "--into", "files", base+"/library/tiny:1b", files)
	assert.Equal(
		t, []string{"model.gguf", "params.json", "template.txt"}, slices.Sorted(maps.Keys(filesOf(t, files))),
	)

	must(t, "pull", "--into", "ollama", base+"/library/tiny:1b", models)
	must(t, "push", models, base+"/you/again:1")
	again := t.TempDir()
	must(t, "pull", "--into", "files", base+"/you/again:1", again)
	assert.Equal(t, filesOf(t, files), filesOf(t, again))

	for _, args := range [][]string{
		{"push", "--type", "ollama", filepath.Join(parts, "template.txt"), base + "/a/b"},
		{"push", "--type", "ollama", gguf, "--params", filepath.Join(parts, "bad.json"), base + "/a/b"},
	} {
		r := runWith(t, args...)
		assert.Equal(t, exitFailed, r.code)
		assert.Regexp(t, "not a GGUF file|not JSON", r.stderr)
	}
	assert.Equal(t, exitUsage, runWith(t, "push", "--type", "ollama", parts, base+"/a/b").code)
}

func TestAModelPackManifestSaysWhatEachFileIs(t *testing.T) {
	made, s := tree(t, someFiles), startedServer(t)
	must(t, "push", "--type", "modelpack", made, s.url+"/me/model:v1")
	dir := t.TempDir()
	must(t, "pull", "--into", "blobs", s.url+"/me/model:v1", dir)
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	require.NoError(t, err)
	var m ocispec.Manifest
	require.NoError(t, json.Unmarshal(data, &m))
	assert.Equal(t, "application/vnd.cncf.model.manifest.v1+json", m.ArtifactType)
	assert.Equal(t, "application/vnd.cncf.model.config.v1+json", m.Config.MediaType)
	types := map[string]string{}
	for _, l := range m.Layers {
		types[l.Annotations["org.cncf.model.filepath"]] = l.MediaType
		assert.True(t, json.Valid([]byte(l.Annotations["org.cncf.model.file.metadata+json"])))
	}
	const doc, weight = "application/vnd.cncf.model.doc.v1.raw", "application/vnd.cncf.model.weight.v1.raw"
	const config = "application/vnd.cncf.model.weight.config.v1.raw"
	assert.Equal(t, map[string]string{
		"README.md": doc, "config.json": config, "model.safetensors": weight, "empty.bin": weight,
		"tokenizer/vocab.txt": config, "tokenizer/merges.txt": config,
	}, types)
	data, err = os.ReadFile(blobPath(dir, m.Config.Digest.String()))
	require.NoError(t, err)
	assert.Contains(t, string(data), `"format":"safetensors"`)
}

func TestWhatCannotBePushedIsNamed(t *testing.T) {
	const ref = "localhost:1/a"
	blobs := tree(t, map[string]string{"sha256-" + strings.Repeat("0", 64): "x"})
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing there": {[]string{"push", "/nonexistent", "localhost:1/a"}, exitFailed, "/nonexistent"},
		"an empty DIR":  {[]string{"push", t.TempDir(), ref}, exitFailed, "is empty; push takes files"},
		"blobs alone":   {[]string{"push", blobs, ref}, exitFailed, "has blobs but no manifest.json"},
		"an unknown type": {
			[]string{"push", "--type", "zip", blobs, ref}, exitUsage, "none of files, modelpack",
		},
		"swapped operands": {[]string{"push", ref, blobs}, exitUsage, "transfer push " + blobs + " " + ref},
		"swapped pull":     {[]string{"pull", blobs, ref}, exitUsage, "transfer pull " + ref + " " + blobs},
		"an empty operand": {[]string{"pull", "localhost:1/a", ""}, exitUsage, "DIR is empty"},
		"an empty PATH":    {[]string{"push", "", "localhost:1/a"}, exitUsage, "a PATH or REF is empty"},
		"an unknown form": {
			[]string{"pull", "--into", "zip", ref, "x"}, exitUsage, "none of files, blobs, oci",
		},
		"a registry alone": {
			[]string{"pull", "10.0.0.1:5000", "x"}, exitUsage, "expected 10.0.0.1:5000/NAME",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := runWith(t, test.args...)
			assert.Equal(t, test.code, r.code)
			assert.Contains(t, r.stderr, test.want)
			assert.NotContains(t, r.stderr, "file does not exist")
		})
	}
}

func TestADirectoryBehindALinkIsPushed(t *testing.T) {
	linked, base := filepath.Join(t.TempDir(), "current"), startedServer(t).url+"/me/model"
	link(t, tree(t, someFiles), linked)
	for tag, args := range map[string][]string{"files": nil, "tar": {"--tar"}} {
		must(t, append([]string{"push", linked, base + ":" + tag}, args...)...)
	}
	pulled := t.TempDir()
	must(t, "pull", base+":files", pulled)
	assert.Equal(t, someFiles, filesOf(t, pulled))
	pulled = t.TempDir()
	must(t, "pull", base+":tar", pulled)
	assert.Equal(t, someFiles, filesOf(t, filepath.Join(pulled, "current")))
}

func TestALinkToADirectoryInADirectoryIsNotFollowed(t *testing.T) {
	made := tree(t, someFiles)
	link(t, t.TempDir(), filepath.Join(made, "sub"))
	r := runWith(t, "push", made, "localhost:1/me/model")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "a link to a directory, which is not followed")
}

func TestFlagsOfPushThatWouldDoNothingAreRefused(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, ref)
	layout := t.TempDir()
	must(t, "pull", "--into", "oci", ref, layout)
	file := filepath.Join(made, "config.json")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"a template of files":   {[]string{made, "--template", file}, "--template is for --type ollama"},
		"a licence of a layout": {[]string{layout, "--license", file}, "--license is for --type ollama"},
		"a model of files":      {[]string{made, "--model", "x"}, "--model is for an OCI layout"},
		"archives of ollama":    {[]string{file, "--type", "ollama", "--tar"}, "--tar is for --type files"},
		"media types of others": {
			[]string{made, "--type", "modelpack", "--media-type", "a/b"}, "--media-type is for --type files",
		},
		"a type of a layout": {
			[]string{layout, "--artifact-type", "a/b"}, "--artifact-type is for --type files",
		},
		"notes on a layout": {[]string{layout, "--annotation", "a=b"}, "--annotation is for files"},
		"notes on ollama": {
			[]string{file, "--type", "ollama", "--annotation", "a=b"}, "--annotation is for files",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := runWith(t, append(append([]string{"push"}, test.args...), ref)...)
			assert.Equal(t, exitUsage, r.code)
			assert.Contains(t, r.stderr, test.want)
		})
	}
}
