//go:build unix

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// The suite of hostile models. Each round makes a directory beside things that are nobody's business, pulls
// models of a hostile author into it, in any form, with verify, prune and push between them, and looks after
// each step whether anything outside was created, changed, removed or read, whether every name has its bytes,
// and whether bytes, files and memory are within bounds. At the end an honest model, pinned by its digest, is
// pulled into what is left. Other rounds have a directory that somebody else has packed. HOSTILE_SEED and
// HOSTILE_SECONDS say which models and for how long.

// hostileBounds are the flags of each pull, and what follows from them.
const (
	maxUnpacked     = 1 << 20
	maxHostileFiles = 150
	maxHostileHeap  = 1 << 30 // that a command may allocate in all
)

func TestH1H2H4H5HostileModels(t *testing.T) {
	seconds, seed := 5, "1"
	if s := os.Getenv("HOSTILE_SECONDS"); s != "" {
		_, err := fmt.Sscan(s, &seconds)
		require.NoError(t, err)
	}
	if s := os.Getenv("HOSTILE_SEED"); s != "" {
		seed = s
	}
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for round := 0; round == 0 || time.Now().Before(end) && !t.Failed(); round++ {
		sum := fnv.New64a()
		fmt.Fprintf(sum, "%s %d", seed, round)
		h := newHostile(t, fmt.Sprintf("HOSTILE_SEED=%s, round %d", seed, round), sum.Sum64())
		if h.r.IntN(4) == 0 {
			h.prepared()
		} else {
			h.round()
		}
	}
}

// hostile is one round.
type hostile struct {
	t     *testing.T
	name  string
	r     *rand.Rand
	world string // what is outside, and the directory
	dir   string
	steps []string
	reg   *anyRegistry
	bare  bool // what is in the directory need not be right: somebody else has packed it

	outside map[string]string // as it was
	honest  registry.Manifest
	files   map[string]string // of the honest model
}

const secret = "nobody's business"

func newHostile(t *testing.T, name string, seed uint64) *hostile {
	t.Helper()
	world := t.TempDir()
	h := &hostile{
		t: t, name: name, r: rand.New(rand.NewPCG(seed, 1)),
		world: world, dir: filepath.Join(world, "a", "b", "dir"),
		reg: newAnyRegistry(t), files: map[string]string{
			"a": "honest a", "d/a": "honest d/a", "l": "honest l",
			"LICENSE": strings.Repeat("honest ", 20_000),
		},
	}
	for _, path := range []string{
		"victim", "a/victim", "a/b/victim", "a/x", "a/b/x", "a/b/sha256-" + someHex,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(world, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(world, path), []byte(secret+path), 0o644))
	}
	h.honest = h.reg.model(h.files)
	h.outside = h.snapshot()
	return h
}

const someHex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// snapshot is all that is outside of the directory.
func (h *hostile) snapshot() map[string]string {
	all := map[string]string{}
	require.NoError(h.t, filepath.WalkDir(h.world, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == h.dir {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprint(" ", info.Sys().(*syscall.Stat_t).Nlink, info.ModTime(), string(data))
		}
		all[path] = what
		return nil
	}))
	return all
}

// round pulls some hostile models and then the honest one.
func (h *hostile) round() {
	form := h.pick("auto", "files", "blobs", "oci")
	if h.r.IntN(8) == 0 {
		h.pull(h.reg.ref(h.disguised()), "auto")
		form = h.pick("oci", "oci", "blobs")
	} else {
		h.evil()
	}
	if h.pull(h.reg.url+"/me/model@"+h.honest.Digest, form) == exitOK {
		h.honestIsThere(form)
	}
}

// evil pulls some hostile models, with other commands between.
func (h *hostile) evil() {
	for range 1 + h.r.IntN(4) {
		m := h.model()
		h.pull(h.reg.ref(m), h.pick("auto", "auto", "files", "files", "blobs", "oci", "ollama"))
		switch h.r.IntN(5) {
		case 0:
			h.run("verify", h.dir)
		case 1:
			h.run("verify", h.dir, "--from", h.reg.ref(m))
		case 2:
			h.run("prune", h.dir)
		case 3:
			h.run("push", h.dir, h.reg.url+"/pushed/model:v1")
		}
	}
}

func (h *hostile) pick(from ...string) string { return from[h.r.IntN(len(from))] }

func (h *hostile) pull(ref, into string) int {
	return h.run("pull", "--into", into, "--max-unpacked", "1MiB",
		"--max-files", fmt.Sprint(maxHostileFiles), ref, h.dir)
}

// run runs a command and looks at what it has done.
func (h *hostile) run(args ...string) int {
	h.t.Helper()
	h.steps = append(h.steps, strings.Join(args, " "))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	r := runIn(ctx, noEnv, args...)
	runtime.ReadMemStats(&after)
	h.steps = append(h.steps, fmt.Sprint("  ", r.code, " ", strings.TrimSpace(r.stderr)))
	h.must(ctx.Err() == nil, "it does not end")
	h.must(after.TotalAlloc-before.TotalAlloc < maxHostileHeap, "it allocates %d bytes",
		after.TotalAlloc-before.TotalAlloc)
	h.must(!h.reg.saw(secret), "what is outside was read and sent")
	now := h.snapshot()
	for path, was := range h.outside {
		h.must(now[path] == was, "%s was changed or removed", path)
	}
	h.must(len(now) == len(h.outside), "something outside was created: %v", now)
	if !h.bare {
		h.inside()
	}
	return r.code
}

func (h *hostile) must(ok bool, format string, args ...any) {
	h.t.Helper()
	if !ok {
		h.t.Fatalf("%s\n%s\n%s", fmt.Sprintf(format, args...), h.name, strings.Join(h.steps, "\n"))
	}
}

var finalName = regexp.MustCompile(`(^|/)(sha256)[-/]([0-9a-f]{64})$`)

// inside looks at what is in the directory.
func (h *hostile) inside() {
	files, size, counted := 0, int64(0), map[uint64]bool{}
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		files++
		info, err := d.Info()
		if err != nil {
			return err
		}
		inside, _ := filepath.Rel(h.dir, path)
		h.must(!strings.Contains("/"+strings.ToLower(inside)+"/", "/.git/"), "%s was pulled", path)
		switch {
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := filepath.EvalSymlinks(path)
			h.must(err != nil || strings.HasPrefix(target+"/", h.dir+"/"), "%s leads to %s", path, target)
		case info.Mode().IsRegular():
			if st := info.Sys().(*syscall.Stat_t); !counted[st.Ino] { // links count once
				counted[st.Ino], size = true, size+st.Blocks*512
			}
			if m := finalName.FindStringSubmatch(filepath.ToSlash(inside)); m != nil {
				data, err := os.ReadFile(path)
				h.must(err == nil && digest.FromBytes(data).Encoded() == m[3], "%s has other bytes", path)
			}
		default:
			h.must(d.IsDir(), "%s is neither a file nor a directory", path)
		}
		return nil
	})
	h.must(err == nil || os.IsNotExist(err), "%v", err)
	h.must(files < 8*maxHostileFiles, "there are %d files", files)
	h.must(size < 8*maxUnpacked+h.reg.size(), "there are %d bytes", size)
}

// honestIsThere compares the honest model with what is in the directory.
func (h *hostile) honestIsThere(form string) {
	switch form {
	case "blobs":
		data, err := os.ReadFile(filepath.Join(h.dir, manifestName))
		h.must(err == nil && bytes.Equal(data, h.honest.Data), "the manifest is not the honest one")
	case "oci":
		data, err := os.ReadFile(filepath.Join(h.dir, "index.json"))
		listed := err == nil && strings.Contains(string(data), h.honest.Digest)
		h.must(listed, "the honest model is not in the index")
		for title, content := range h.files {
			dg := digest.Digest(h.blobOf(title))
			data, err := os.ReadFile(filepath.Join(h.dir, "blobs", "sha256", dg.Encoded()))
			h.must(err == nil && string(data) == content, "the blob of %s is not the honest one", title)
		}
	default:
		for title, content := range h.files {
			path := filepath.Join(h.dir, title)
			info, err := os.Lstat(path)
			h.must(err == nil && info.Mode().IsRegular(), "%s is no file", title)
			data, err := os.ReadFile(path)
			h.must(err == nil && string(data) == content, "%s is not the honest file", title)
		}
		r := runIn(h.t.Context(), noEnv, "verify", h.dir)
		h.must(r.code == exitOK, "verify: %s", r.stderr)
	}
}

// words are what names are made of. Each means something to somebody.
func (h *hostile) words() []string {
	planted := h.blobOf(h.pick("a", "d/a", "LICENSE"))
	encoded := digest.Digest(planted).Encoded()
	return []string{
		"a", "d", "l", "x", "e", "victim", "..", ".", "", "LICENSE", "A", "D", "d.", "d ",
		".transfer", ".TRANSFER",
		".transfer.", ".tran\u200csfer", "record.json",
		"sha256-" + encoded, "SHA256-" + strings.ToUpper(encoded),
		"sha256-" + encoded + ".partial", "sha256-" + encoded + ".journal",
		"blobs", "sha256", encoded, "manifests",
		"oci-layout", "index.json", "manifest.json",
		".git", ".GIT", "hooks", "git~1", "TRANSF~1", "a\\b", "a\nb",
		"e\u0301", "\u00e9", ".transfer.a.new", "model.gguf", strings.Repeat("n", 300),
		"\u202ea", "a\x1b[2J", "blobs.",
	}
}

func (h *hostile) blobOf(title string) string { return digest.FromString(h.files[title]).String() }

// path is a path of words.
func (h *hostile) path() string {
	words := h.words()
	var parts []string
	for range 1 + h.r.IntN(3) {
		i := h.r.IntN(len(words))
		if h.r.IntN(2) == 0 {
			i = h.r.IntN(5) // what clashes
		}
		parts = append(parts, words[i])
	}
	path := strings.Join(parts, "/")
	switch h.r.IntN(12) {
	case 0:
		return "/" + path
	case 1:
		return "./" + path
	case 2:
		return h.pick("sha256-"+digest.Digest(h.blobOf("a")).Encoded(), ".transfer/record.json", "oci-layout",
			"blobs/sha256/"+digest.Digest(h.blobOf("d/a")).Encoded())
	}
	return path
}

// target is where a link leads.
func (h *hostile) target() string {
	switch h.r.IntN(4) {
	case 0:
		return h.pick("..", "../..", "../victim", "../../victim", "../../../victim", "/etc/passwd", ".", "",
			filepath.Join(h.world, "victim"), "l/../../victim", "d/../../x", "..//../x",
			"./..", "a", "../a", "../d/a")
	case 1:
		return strings.Repeat("../", h.r.IntN(4)) + h.path()
	}
	return h.path()
}

// content is of a file: of no use, or what a later command might trust.
func (h *hostile) content() string {
	switch h.r.IntN(6) {
	case 0:
		return ""
	case 1:
		return strings.Repeat("evil", len(h.files["LICENSE"])/4)
	case 2:
		return fmt.Sprintf(`{"digest":%q,"manifest":%q,"files":{"a":{"digest":%q,"size":8}}}`,
			h.honest.Digest,
			h.honest.Data, h.blobOf("a"))
	case 3:
		return fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":1}]}`,
			registry.MediaTypeManifest, h.honest.Digest)
	}
	return fmt.Sprintf("evil %d", h.r.IntN(9))
}

// archive is a tar archive of members, with or without compression.
func (h *hostile) archive(prefix string) string {
	var out bytes.Buffer
	var sink io.WriteCloser = nopCloser{&out}
	members, zeros := h.members(), 10
	if h.r.IntN(2) == 0 {
		sink = gzip.NewWriter(&out)
		zeros = 4 * maxUnpacked / members // a bomb
	}
	w := tar.NewWriter(sink)
	for range members {
		name := h.path()
		if prefix != "" && h.r.IntN(6) > 0 {
			name = prefix + "/" + name
		}
		h.member(w, name, zeros)
	}
	if h.r.IntN(10) > 0 {
		_ = w.Close()
	}
	_ = sink.Close()
	return out.String()
}

func (h *hostile) members() int {
	if h.r.IntN(30) == 0 {
		return 4 * maxHostileFiles
	}
	return 1 + h.r.IntN(6)
}

// member writes one member. What tar refuses to write is left out.
func (h *hostile) member(w *tar.Writer, name string, zeros int) {
	header := &tar.Header{Name: name, Mode: int64(h.r.IntN(0o10000)), Typeflag: tar.TypeReg}
	content := ""
	switch h.r.IntN(10) {
	case 0, 1:
		header.Typeflag, header.Linkname = tar.TypeSymlink, h.target()
	case 2:
		header.Typeflag, header.Linkname = tar.TypeLink, h.target()
	case 3:
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
	case 4:
		odd := []byte{tar.TypeFifo, tar.TypeChar, tar.TypeBlock, tar.TypeCont, tar.TypeXGlobalHeader}
		header.Typeflag = odd[h.r.IntN(len(odd))]
	case 5:
		content = strings.Repeat("\x00", h.r.IntN(zeros))
	default:
		content = h.content()
	}
	header.Size = int64(len(content))
	if w.WriteHeader(header) == nil {
		_, _ = io.WriteString(w, content)
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// model is a manifest of a hostile author, or an index of such.
func (h *hostile) model() registry.Manifest {
	if h.r.IntN(8) == 0 {
		return h.index()
	}
	m := manifest{SchemaVersion: 2, MediaType: registry.MediaTypeManifest, Config: h.reg.put("{}")}
	type annotated struct {
		descriptor
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	var layers []annotated
	for range 1 + h.r.IntN(4) {
		title := h.path()
		l := annotated{Annotations: map[string]string{"org.opencontainers.image.title": title}}
		switch h.r.IntN(5) {
		case 0, 1:
			l.descriptor = h.reg.put(h.archive(h.pick(title, title, "")))
			l.Annotations[unpackAnnotation] = "true"
		case 2:
			l.descriptor = h.reg.put(h.archive(""))
			l.MediaType = "application/vnd.cncf.model.weight.v1.tar"
		case 3:
			l.descriptor = h.reg.put(h.content())
			l.MediaType = h.pick(
				"application/vnd.ollama.image.model", "application/vnd.ollama.image.license", "a/b",
			)
			l.Annotations["org.cncf.model.file.metadata+json"] = h.pick(
				`{"mode":2541}`, `{"mode":-1}`, "{", `{"mode":493}`,
			)
		default:
			l.descriptor = h.reg.put(h.content())
		}
		for range h.r.IntN(3) * h.r.IntN(2) * 40 { // one blob of many titles
			again := l
			numbered := fmt.Sprintf("%s%d", title, len(layers))
			again.Annotations = map[string]string{"org.opencontainers.image.title": numbered}
			layers = append(layers, again)
		}
		layers = append(layers, l)
	}
	data, err := json.Marshal(struct {
		manifest
		Layers []annotated `json:"layers"`
	}{m, layers})
	require.NoError(h.t, err)
	return h.reg.putManifest(data, registry.MediaTypeManifest)
}

// disguised is an archive with a directory, or a link to one, where a layout would have the blobs of others.
func (h *hostile) disguised() registry.Manifest {
	dg := digest.Digest(h.blobOf("LICENSE"))
	top, name := h.pick("blobs", "blobs", "blobs", "Blobs", ".", "d"), h.pick(
		"sha256", "sha256", "sha256", "SHA256", "sha512", "manifests", "blobs", ".transfer", "x")
	behind := h.pick("y", "sub/y", "sha256.d", "manifests.d")
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	evil := strings.Repeat("evil", len(h.files["LICENSE"])/4)
	path := top + "/" + behind + "/" + h.pick(
		dg.Encoded(), dg.Encoded(), dg.Encoded(), "sha256-"+dg.Encoded(), "record.json")
	_ = w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(evil)), Typeflag: tar.TypeReg})
	_, _ = io.WriteString(w, evil)
	_ = w.WriteHeader(&tar.Header{Name: top + "/" + name, Typeflag: tar.TypeSymlink, Linkname: behind})
	_ = w.Close()
	layer := strings.Replace(titled(h.reg.put(out.String()), top), `"annotations":{`,
		`"annotations":{"`+unpackAnnotation+`":"true",`, 1)
	return h.reg.of(layer)
}

// index names models many times.
func (h *hostile) index() registry.Manifest {
	child := h.honest
	if h.r.IntN(2) == 0 {
		child = h.model()
	}
	one := fmt.Sprintf(
		`{"mediaType":%q,"digest":%q,"size":%d}`, child.MediaType, child.Digest, len(child.Data),
	)
	list := strings.Repeat(one+",", 1+h.r.IntN(600)) + one
	return h.reg.putManifest([]byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`,
		registry.MediaTypeIndex, list)), registry.MediaTypeIndex)
}
