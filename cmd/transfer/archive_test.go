//go:build unix

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everythingOf is all that push has to take and pull to return: names, content, executable bits, empty
// directories.
func everythingOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == ".transfer" {
			return fs.SkipDir
		}
		name, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil || d.IsDir() {
			all[name] = "directory"
			return err
		}
		data, err := os.ReadFile(path)
		all[name] = fmt.Sprint(info.Mode()&0o100 != 0, " ", string(data))
		return err
	}))
	return all
}

// What push takes, pull returns; what pull would refuse, push refuses.
func TestL1WhatPushTakesPullReturns(t *testing.T) {
	elements := []string{
		"a", "b", "A", "d", "e\u0301", "\u00e9", "模型", "with space", "a.", ".hidden", "-x",
		"index.json", "manifest.json",
		"blobs", "x\\y", "x\ny", "x\ry", "x\xffy", ".Transfer",
		"sha256-" + someHexDigits, "oci-layout", "x\u202ey", "Icon\r",
		".gitignore", "~", "%2e", "a:b", "CON", strings.Repeat("n", 255),
	}
	s := startedServer(t)
	good := 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		made := t.TempDir()
		for range 1 + r.IntN(6) {
			path := made
			for range 1 + r.IntN(3) {
				most := len(elements)
				if r.IntN(3) > 0 {
					most = 6
				}
				path = filepath.Join(path, elements[r.IntN(most)])
			}
			if r.IntN(4) == 0 {
				_ = os.MkdirAll(path, 0o755)
				continue
			}
			_ = os.MkdirAll(filepath.Dir(path), 0o755)
			content := strings.Repeat("x", r.IntN(3)*50_000) + fmt.Sprint(r.IntN(3))
			_ = os.WriteFile(path, []byte(content), []fs.FileMode{0o644, 0o755, 0o600}[r.IntN(3)])
		}
		want := everythingOf(t, made)
		for name := range want { // left out on both sides, and said so
			if strings.Contains(name, "Icon\r") {
				delete(want, name)
			}
		}
		for _, how := range [][]string{{"--type", "files"}, {"--tar"}, {"--type", "modelpack"}} {
			ref := fmt.Sprintf("%s/me/m%d:%s", s.url, seed, strings.Trim(how[len(how)-1], "-"))
			pushed := runWith(t, append(append([]string{"push"}, how...), made, ref)...)
			if pushed.code != exitOK {
				const refusals = "nobody could pull it|no file in it|is empty|has blobs but no|is for --type"
				assert.Regexp(t, refusals, pushed.stderr)
				continue
			}
			good++
			pulled := t.TempDir()
			must(t, "pull", "--into", "files", ref, pulled)
			if how[0] == "--tar" {
				pulled = filepath.Join(pulled, filepath.Base(made))
			}
			assert.Equal(t, want, everythingOf(t, pulled), "seed %d, %v", seed, how)
			again := t.TempDir()
			must(t, "pull", "--into", "files", ref, again)
			assert.NotContains(t, must(t, "verify", again).stdout, ": 0 files")
		}
	}
	assert.Greater(t, good, 40)
}

const someHexDigits = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestL1TheDigestOfModelPackDependsOnFilesAlone(t *testing.T) {
	s := startedServer(t)
	digestOf := func(made string) string {
		stdout := must(t, "push", "--type", "modelpack", made, s.url+"/me/model:v1").stdout
		return stdout[strings.Index(stdout, "digest "):]
	}
	one, two := tree(t, someFiles), tree(t, someFiles)
	require.NoError(t, os.Chtimes(filepath.Join(two, "README.md"), time.Unix(1, 0), time.Unix(1, 0)))
	require.NoError(t, os.Chmod(filepath.Join(two, "README.md"), 0o600))
	assert.Equal(t, digestOf(one), digestOf(two))
	require.NoError(t, os.Chmod(filepath.Join(two, "README.md"), 0o755))
	assert.NotEqual(t, digestOf(one), digestOf(two))
}

func TestL2DamageInAnUnpackedDirectoryIsSeenAndRepaired(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", "--tar", filepath.Join(made, "tokenizer"), ref)
	dir := t.TempDir()
	assert.Contains(t, must(t, "pull", "--dry-run", ref, dir).stdout, ": 1 archive, ")
	assert.Contains(t, must(t, "pull", ref, dir).stdout, ": 1 archive, ")
	assert.Contains(t, must(t, "verify", dir).stdout, "2 files and 1 directory, ")
	damage := func() {
		require.NoError(t, os.Remove(filepath.Join(dir, "tokenizer", "vocab.txt")))
		require.NoError(
			t, os.WriteFile(filepath.Join(dir, "tokenizer", "merges.txt"), []byte("x\ny\n"), 0o600),
		)
	}
	damage()
	r := runWith(t, "verify", dir)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stdout, "tokenizer/vocab.txt: missing")
	assert.Contains(t, r.stdout, "tokenizer/merges.txt: its content does not match")
	assert.NotContains(t, must(t, "pull", ref, dir).stdout, "all there already")
	assert.Equal(t, "a\nb\n", filesOf(t, dir)["tokenizer/vocab.txt"])
	damage()
	assert.Contains(t, runWith(t, "verify", dir).stderr, ": 2 of 2 files and 1 directory wrong or missing\n")
	r = must(t, "verify", dir, "--from", ref)
	assert.Contains(t, r.stdout, "repaired 2 of 2 files and 1 directory in "+dir+"\n")
	must(t, "verify", dir)
	assert.Equal(t, "a\nb\n", filesOf(t, dir)["tokenizer/merges.txt"])
}

func TestL2NothingIsNotAllRight(t *testing.T) {
	reg := newAnyRegistry(t)
	empty := reg.model(nil)
	dir := t.TempDir()
	require.Equal(t, exitOK, runWith(t, "pull", "--into", "files", reg.ref(empty), dir).code)
	r := runWith(t, "verify", dir)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "there is nothing in it to verify")
}

// gzipped is a compressed archive of files; a name with a slash at its end is a directory.
func gzipped(t *testing.T, files map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			header.Typeflag = tar.TypeDir
		}
		require.NoError(t, w.WriteHeader(header))
		_, err := io.WriteString(w, files[name])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return out.String()
}

func TestL1AWholeDirectoryOfOrasIsPulled(t *testing.T) {
	reg := newAnyRegistry(t)
	packed := reg.put(
		gzipped(t, map[string]string{"./": "", "a.txt": "a", "d/b.txt": "b", ".git/hooks/x": "evil"}),
	)
	config := reg.put("{}")
	m := reg.putManifest(fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,`+
			`"size":2},"layers":[{"mediaType":"a/b","digest":%q,"size":%d,"annotations":{`+
			`"org.opencontainers.image.title":".","io.deis.oras.content.unpack":"true"}}]}`,
		registry.MediaTypeManifest,
		config.Digest, packed.Digest, packed.Size), registry.MediaTypeManifest)
	dir := t.TempDir()
	must(t, "pull", reg.ref(m), dir)
	assert.Equal(t, map[string]string{"a.txt": "a", "d/b.txt": "b"}, filesOf(t, dir))
	assert.Contains(t, must(t, "pull", reg.ref(m), dir).stdout, "all there already")
	assert.Contains(t, must(t, "verify", dir).stdout, "2 files")
}

func TestH12WhatGitKeepsIsNeitherPushedNorPulled(t *testing.T) {
	made := tree(
		t, map[string]string{"a": "a", ".git/hooks/post-checkout": "evil", "sub/.GIT/config": "evil"},
	)
	s := startedServer(t)
	pushed := must(t, "push", made, s.url+"/me/model:v1")
	assert.Contains(t, pushed.stdout, "left out "+filepath.Join(made, ".git"))
	reg := newAnyRegistry(t)
	dir := t.TempDir()
	evil := map[string]string{"a": "a", ".git/hooks/x": "evil", "b/.Git/config": "e"}
	must(t, "pull", reg.ref(reg.model(evil)), dir)
	assert.Equal(t, map[string]string{"a": "a"}, filesOf(t, dir))
}

func TestH5OneChildOfAnIndexIsReadOnce(t *testing.T) {
	reg := newAnyRegistry(t)
	child := reg.model(map[string]string{"a": "a"})
	list := func(n int, m registry.Manifest) registry.Manifest {
		one := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, m.MediaType, m.Digest, len(m.Data))
		return reg.putManifest(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`,
			registry.MediaTypeIndex, strings.TrimSuffix(strings.Repeat(one+",", n), ",")),
			registry.MediaTypeIndex)
	}
	nested := list(600, list(600, list(600, child)))
	dir := t.TempDir()
	must(t, "pull", "--into", "oci", reg.ref(nested), dir)
	must(t, "verify", dir)
	r := runWith(t, "pull", "--into", "oci", "--max-manifests", "3", reg.ref(nested), t.TempDir())
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "raise --max-manifests")
	r = runWith(t, "push", "--max-manifests", "3", dir, reg.url+"/pushed/m:v1")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "raise --max-manifests")
	r = runWith(t, "verify", "--max-manifests", "2", dir)
	assert.Contains(t, r.stderr, "raise --max-manifests")
}

func TestH10PipesDoNotHoldACommand(t *testing.T) {
	s := startedServer(t)
	must(t, "push", tree(t, someFiles), s.url+"/me/model:v1")
	for _, form := range []string{"oci", "blobs"} {
		for _, command := range [][]string{{"verify"}, {"prune"}, {"push", s.url + "/me/again:v1"}} {
			dir := t.TempDir()
			must(t, "pull", "--into", form, s.url+"/me/model:v1", dir)
			name := filepath.Join(dir, map[string]string{"oci": "index.json", "blobs": "manifest.json"}[form])
			require.NoError(t, os.Remove(name))
			require.NoError(t, syscall.Mkfifo(name, 0o600))
			args := append([]string{command[0], dir}, command[1:]...)
			done := make(chan result, 1)
			go func() { done <- runWith(t, args...) }()
			select {
			case r := <-done:
				assert.Equal(t, exitFailed, r.code, "%v", args)
			case <-time.After(20 * time.Second):
				t.Fatalf("%v does not end", args)
			}
		}
	}
}

func TestH1PruneRemovesNothingThroughALinkOfSomebodyElse(t *testing.T) {
	s := startedServer(t)
	must(t, "push", tree(t, someFiles), s.url+"/me/model:v1")
	dir, elsewhere := t.TempDir(), t.TempDir()
	must(t, "pull", "--into", "oci", s.url+"/me/model:v1", dir)
	precious := filepath.Join(elsewhere, digest.FromString("precious").Encoded())
	require.NoError(t, os.WriteFile(precious, []byte("precious"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", "notes.txt"), nil, 0o600))
	link(t, precious, filepath.Join(dir, "blobs", "sha256", digest.FromString("other").Encoded()))
	link(t, elsewhere, filepath.Join(dir, "blobs", "sha384"))
	if os.Lchown(filepath.Join(dir, "blobs", "sha384"), 12345, 12345) == nil {
		assert.Equal(t, exitFailed, runWith(t, "prune", dir).code)
		assert.FileExists(t, precious)
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "blobs", "sha384")))
	must(t, "prune", dir)
	assert.FileExists(t, precious)
	assert.FileExists(t, filepath.Join(dir, "blobs", "sha256", "notes.txt"))
}
