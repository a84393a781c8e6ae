package e2e

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/registry"
)

// The tests of this file have the programs that people use pull what the command line program has pushed, in
// every form and at every registry, and the other way round.

// form is a model in one of the forms in which it is pushed.
type form struct {
	layout    string // an OCI layout of it, which the command line program has pulled
	digest    string
	platforms map[string]string // directories with the files, by --platform; "" is all
}

// makeForms pushes a model in each form to a registry and pulls a layout of it.
func makeForms(t *testing.T) map[string]form {
	t.Helper()
	s := newDistribution(t).serve(t)
	c := newCLI(t)
	made := map[string]string{
		"": smallFiles(t, 1), "linux/amd64": smallFiles(t, 2), "linux/arm64": smallFiles(t, 3),
	}
	manifests := map[string]registry.Manifest{}
	for platform, files := range made {
		if platform != "" {
			_, architecture, _ := strings.Cut(platform, "/")
			ref := s.url + "/me/model:" + architecture
			c.must(t, "push", "--type", "modelpack", files, ref)
			manifests[architecture] = registry.NewManifest([]byte(c.must(t, "inspect", "--raw", ref)), "")
		}
	}
	repo, err := registry.Open(registry.Options{BaseURL: s.url, Repository: "me/model", Push: true})
	require.NoError(t, err)
	t.Cleanup(repo.CloseIdleConnections)
	require.NoError(t, repo.PutManifest(t.Context(), "index", indexOf(t, manifests)))
	forms := map[string]form{}
	for _, name := range []string{"files", "modelpack", "index"} {
		f := form{layout: filepath.Join(t.TempDir(), "layout"), platforms: map[string]string{"": made[""]}}
		ref := s.url + "/" + name + "/model:v1"
		if name == "index" {
			c.must(t, "copy", s.url+"/me/model:index", ref)
			f.platforms = maps.Clone(made)
			delete(f.platforms, "")
		} else {
			c.must(t, "push", "--type", name, made[""], ref)
		}
		f.digest = digestLine(c.must(t, "pull", "--into", "oci", ref, f.layout))
		forms[name] = f
	}
	return forms
}

// digestLine is the last line of what a push or a pull prints.
func digestLine(stdout string) string {
	_, line, _ := strings.Cut(stdout, "digest ")
	return strings.TrimSpace(line)
}

// smallFiles are a model that is pushed and pulled often.
func smallFiles(t *testing.T, seed uint64) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int{
		"model.safetensors": 2*mib + 7, "config.json": 500, "tokenizer/vocab.txt": 5000, "README.md": 1000,
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, randomBytes(t, seed<<32|uint64(size), size), 0o644))
	}
	return dir
}

// loginRegistries are registries that let in everybody, those with a password, and those with a token.
func loginRegistries(t *testing.T) map[string]*server {
	t.Helper()
	ts := newTokenServer(t)
	ts.user, ts.password = user, password
	return map[string]*server{
		"distribution":                newDistribution(t).serve(t),
		"distribution with passwords": newDistribution(t).withPasswords(t).serve(t),
		"distribution with tokens":    newDistribution(t).withToken(ts).serve(t),
		"distribution 2":              newOldRegistry(t),
		"go-containerregistry":        serve(t, newContainerRegistry(), false),
		"ocimem":                      serve(t, newOCIMem(), false),
		"transfer serve":              serveCLI(t),
	}
}

// serveCLI runs the registry of the command line program. Its traffic is not recorded.
func serveCLI(t *testing.T) *server {
	t.Helper()
	c, address := newCLI(t), freeAddress(t)
	cmd := exec.Command(c.program, "serve", "--listen", address, filepath.Join(t.TempDir(), "registry"))
	cmd.Env = append(os.Environ(), "HOME="+c.home)
	start(t, cmd)
	awaitListener(t, address)
	return &server{url: "http://" + address}
}

// It lists referrers itself, so that clients need not keep them under a tag.
func TestCLIServeHasReferrers(t *testing.T) {
	s, c := serveCLI(t), newCLI(t)
	host := strings.TrimPrefix(s.url, "http://")
	others := tools{home: c.home, host: host}
	dir := smallFiles(t, 1)
	c.must(t, "push", dir, host+"/me/model:v1")
	others.run(t, buildOras, dir, "attach", "--plain-http", "--artifact-type", "application/vnd.example.note",
		host+"/me/model:v1", "README.md")
	assert.Equal(t, "v1\n", c.must(t, "tags", host+"/me/model"))
	found := others.run(t, buildOras, dir, "discover", "--plain-http", host+"/me/model:v1")
	assert.Contains(t, found, "application/vnd.example.note")
}

func TestCLIAndOtherProgramsAtEveryRegistry(t *testing.T) {
	forms := makeForms(t)
	for name, s := range loginRegistries(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// oras asks a token server on loopback only where the registry has the same name.
			host := strings.Replace(strings.TrimPrefix(s.url, "http://"), "127.0.0.1", "localhost", 1)
			c := newCLI(t)
			if strings.Contains(name, " with ") {
				_, stderr, code := c.run(t.Context(), password,
					"login", "--username", user, "--password-stdin", host)
				require.Zero(t, code, stderr)
			}
			withOtherPrograms(t, c, tools{home: c.home, host: host}, forms)
		})
	}
}

// withOtherPrograms pushes the forms to a registry and tries all programs there.
func withOtherPrograms(t *testing.T, c cli, others tools, forms map[string]form) {
	t.Helper()
	for kind, f := range forms {
		args := []string{"push", "--type", kind, f.platforms[""]}
		if kind == "index" {
			args = []string{"push", f.layout}
		}
		pushed := c.must(t, append(args, others.host+"/me/model:"+kind)...)
		require.Equal(t, f.digest, digestLine(pushed))
	}
	for program, carrier := range others.carriers(t) {
		for kind, f := range forms {
			t.Run(program+" and "+kind, func(t *testing.T) {
				f.requireCarried(t, c, others, carrier, program+"/model:"+kind, kind)
			})
		}
	}
	t.Run("oras and single files", func(t *testing.T) { orasAndFiles(t, c, others, forms["files"]) })
	t.Run("regctl and single files", func(t *testing.T) { regctlAndFiles(t, c, others, forms["files"]) })
}

// requireCarried has a program fetch what was pushed, and send it again under another name.
func (f form) requireCarried(t *testing.T, c cli, others tools, by carrier, name, kind string) {
	t.Helper()
	fetched := filepath.Join(t.TempDir(), "layout")
	others.run(t, by.build, "", by.fetch(others.host+"/me/model:"+kind, fetched)...)
	requireSameFiles(t, filepath.Join(f.layout, "blobs"), filepath.Join(fetched, "blobs"))

	others.run(t, by.build, "", by.send(others.host+"/"+name, f.layout)...)
	for platform, files := range f.platforms {
		pulled := t.TempDir()
		stdout := c.must(t, "pull", "--platform", platform, others.host+"/"+name, pulled)
		assert.Equal(t, f.digest, digestLine(stdout))
		requireSameFiles(t, files, pulled)
	}
}

// titlesOf are the files of a directory, by their paths in it.
func titlesOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.*"))
	require.NoError(t, err)
	below, err := filepath.Glob(filepath.Join(dir, "*", "*.*"))
	require.NoError(t, err)
	titles := make([]string, 0, len(files)+len(below))
	for _, path := range slices.Concat(files, below) {
		title, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		titles = append(titles, filepath.ToSlash(title))
	}
	return titles
}

func orasAndFiles(t *testing.T, c cli, others tools, f form) {
	t.Helper()
	made := f.platforms[""]
	for _, kind := range []string{"files", "modelpack"} {
		pulled := t.TempDir()
		others.run(t, buildOras, pulled, "pull", "--plain-http", others.host+"/me/model:"+kind)
		requireSameFiles(t, made, pulled)
	}
	ref := others.host + "/oras/files"
	args := []string{"push", "--plain-http", "--artifact-type", "application/vnd.example.model"}
	others.run(t, buildOras, made, slices.Concat(args, []string{ref + ":files"}, titlesOf(t, made))...)
	pulled := t.TempDir()
	c.must(t, "pull", ref+":files", pulled)
	requireSameFiles(t, made, pulled)

	// A directory becomes one archive, each way.
	parent := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(parent, "model"), os.DirFS(made)))
	others.run(t, buildOras, parent, append(args, ref+":archive", "model")...)
	pulled = t.TempDir()
	c.must(t, "pull", ref+":archive", pulled)
	requireSameFiles(t, parent, pulled)
	c.must(t, "push", "--tar", filepath.Join(parent, "model"), ref+":tar")
	pulled = t.TempDir()
	others.run(t, buildOras, pulled, "pull", "--plain-http", ref+":tar")
	requireSameFiles(t, parent, pulled)
}

func regctlAndFiles(t *testing.T, c cli, others tools, f form) {
	t.Helper()
	made := f.platforms[""]
	regctl := []string{"--host", "reg=" + others.host + ",tls=disabled", "artifact"}
	pulled := t.TempDir()
	get := []string{"get", "--output", pulled, others.host + "/me/model:files"}
	others.run(t, buildRegctl, pulled, slices.Concat(regctl, get)...)
	requireSameFiles(t, made, pulled)

	ref := others.host + "/regctl/files:v1"
	put := []string{"put", "--artifact-type", "application/vnd.example.model", "--file-title"}
	for _, title := range titlesOf(t, made) {
		put = append(put, "--file", title, "--file-media-type", "application/octet-stream")
	}
	others.run(t, buildRegctl, made, slices.Concat(regctl, put, []string{ref})...)
	pulled = t.TempDir()
	c.must(t, "pull", ref, pulled)
	requireSameFiles(t, made, pulled)
}
