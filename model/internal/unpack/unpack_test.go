package unpack_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func layer(title, content string) registry.Descriptor {
	return registry.Descriptor{
		Digest: digest.FromString(content).String(), Size: int64(len(content)),
		Annotations: map[string]string{"org.opencontainers.image.title": title},
	}
}

func TestTitlesThatLeadOutAreRefused(t *testing.T) {
	for _, title := range []string{
		"../x", "a/../../x", "/etc/passwd", "..", ".", "a\x00b", "a\nb", "./../x",
		".transfer/record.json", ".Transfer/x", ".transfer",
	} {
		_, _, err := unpack.Entries(registry.Content{Layers: []registry.Descriptor{layer(title, "x")}})
		require.ErrorIs(t, err, names.ErrName, "%q", title)
	}
	if runtime.GOOS != "windows" {
		_, _, err := unpack.Entries(registry.Content{Layers: []registry.Descriptor{layer(`..\x`, "x")}})
		require.ErrorIs(t, err, names.ErrName)
	}
}

func TestTitlesAreMadeShort(t *testing.T) {
	entries, unnamed, err := unpack.Entries(registry.Content{Layers: []registry.Descriptor{
		layer("./a//b/../c", "x"), layer("", "y"), layer("same", "z"), layer("same", "z"),
	}})
	require.NoError(t, err)
	assert.Equal(t, 1, unnamed)
	require.Len(t, entries, 2)
	assert.Equal(t, "a/c", entries[0].Title)
}

func TestOneTitleOfTwoFilesIsRefused(t *testing.T) {
	_, _, err := unpack.Entries(
		registry.Content{Layers: []registry.Descriptor{layer("a", "x"), layer("./a", "y")}},
	)
	require.ErrorIs(t, err, names.ErrName)
}

func TestOllamaLayersAreNumbered(t *testing.T) {
	license := func(content string) registry.Descriptor {
		return registry.Descriptor{
			MediaType: "application/vnd.ollama.image.license",
			Digest:    digest.FromString(content).String(),
		}
	}
	entries, _, err := unpack.Entries(
		registry.Content{Layers: []registry.Descriptor{license("a"), license("b"), license("c")}},
	)
	require.NoError(t, err)
	var titles []string
	for _, e := range entries {
		titles = append(titles, e.Title)
	}
	assert.Equal(t, []string{"LICENSE", "LICENSE-2", "LICENSE-3"}, titles)
}

// staged opens a directory whose stage has a blob.
func staged(t *testing.T, content string) (string, *unpack.Dir) {
	t.Helper()
	path := t.TempDir()
	dir, err := unpack.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = dir.Close() })
	require.NoError(t, os.MkdirAll(dir.Stage(), 0o755))
	blob := filepath.Join(dir.Stage(), pack.BlobName(digest.FromString(content)))
	require.NoError(t, os.WriteFile(blob, []byte(content), 0o600))
	return path, dir
}

// place gives entries their places, which are all that there are.
func place(t *testing.T, dir *unpack.Dir, entries []unpack.Entry) error {
	t.Helper()
	return dir.Place(t.Context(), entries, entries)
}

func TestNothingIsWrittenThroughALink(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	for name, prepare := range map[string]func(dir string) error{
		"the directory above is a link": func(dir string) error {
			return os.Symlink(outside, filepath.Join(dir, "sub"))
		},
		"the file is a link": func(dir string) error {
			sub := filepath.Join(dir, "sub")
			return cmp.Or(os.Mkdir(sub, 0o755), os.Symlink(victim, filepath.Join(sub, "victim")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, dir := staged(t, "evil")
			if err := prepare(path); err != nil {
				t.Skip(err)
			}
			_ = place(t, dir, []unpack.Entry{{Title: "sub/victim", Layer: layer("sub/victim", "evil")}})
			data, err := os.ReadFile(victim)
			require.NoError(t, err)
			assert.Equal(t, "precious", string(data))
		})
	}
}

func TestABlobOfTwoTitlesIsBoth(t *testing.T) {
	path, dir := staged(t, "twice")
	entries := []unpack.Entry{
		{Title: "a", Layer: layer("a", "twice")},
		{Title: "b/c", Layer: layer("b/c", "twice")},
	}
	require.NoError(t, place(t, dir, entries))
	for _, name := range []string{"a", "b/c"} {
		data, err := os.ReadFile(filepath.Join(path, name))
		require.NoError(t, err)
		assert.Equal(t, "twice", string(data))
	}
	for _, e := range entries {
		there, err := dir.There(t.Context(), e, true)
		require.NoError(t, err)
		assert.True(t, there)
	}
}

func TestAnEntryThatAnotherPullHasPlacedIsThere(t *testing.T) {
	path, dir := staged(t, "x")
	e := unpack.Entry{Title: "a", Layer: layer("a", "x")}
	blob := filepath.Join(dir.Stage(), pack.BlobName(digest.FromString("x")))
	require.NoError(t, os.Rename(blob, filepath.Join(path, "a")))
	require.NoError(t, place(t, dir, []unpack.Entry{e}))
	require.NoError(t, os.WriteFile(filepath.Join(path, "a"), []byte("y"), 0o600))
	require.ErrorIs(t, place(t, dir, []unpack.Entry{e}), os.ErrNotExist)
}

func TestAnArchiveThatCannotBeUnpackedIsNamed(t *testing.T) {
	l := layer("a", "x")
	l.MediaType = "application/vnd.cncf.model.weight.v1.tar+xz"
	_, _, err := unpack.Entries(registry.Content{Layers: []registry.Descriptor{l}})
	require.ErrorIs(t, err, unpack.ErrPacked)

	l.MediaType = "application/vnd.cncf.model.weight.v1.tar"
	content := strings.Repeat("no archive", 100)
	_, dir := staged(t, content)
	l.Digest = digest.FromString(content).String()
	require.ErrorIs(t, place(t, dir, entriesOf(t, l)), unpack.ErrPacked)
}

// entriesOf returns the entries of a layer.
func entriesOf(t *testing.T, l registry.Descriptor) []unpack.Entry {
	t.Helper()
	entries, _, err := unpack.Entries(registry.Content{Layers: []registry.Descriptor{l}})
	require.NoError(t, err)
	return entries
}

func TestWhatHasAnothersTitleIsReplaced(t *testing.T) {
	path, dir := staged(t, "twice")
	require.NoError(t, os.WriteFile(filepath.Join(path, "mine"), []byte("precious"), 0o600))
	if err := os.Symlink("mine", filepath.Join(path, "a")); err != nil {
		t.Skip(err)
	}
	entries := []unpack.Entry{
		{Title: "a", Layer: layer("a", "twice")},
		{Title: "b", Layer: layer("b", "twice")},
	}
	require.NoError(t, place(t, dir, entries))
	for name, want := range map[string]string{"mine": "precious", "a": "twice", "b": "twice"} {
		data, err := os.ReadFile(filepath.Join(path, name))
		require.NoError(t, err)
		assert.Equal(t, want, string(data), name)
	}
}

func TestADirectoryInTheWayIsAnError(t *testing.T) {
	path, dir := staged(t, "x")
	require.NoError(t, os.Mkdir(filepath.Join(path, "a"), 0o755))
	_, err := dir.There(t.Context(), unpack.Entry{Title: "a", Layer: layer("a", "x")}, false)
	require.ErrorContains(t, err, "a directory is in the way")
}

// packings are the ways in which an archive may be packed.
var packings = map[string]func(io.Writer) (io.WriteCloser, error){
	"plain": func(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil },
	"gzip":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	"zstd":  func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// archive packs members, whose content is "evil".
func archive(t *testing.T, packing string, headers ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	packed, err := packings[packing](&b)
	require.NoError(t, err)
	w := tar.NewWriter(packed)
	for _, h := range headers {
		if h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, 4
		}
		require.NoError(t, w.WriteHeader(&h))
		if h.Size > 0 {
			_, err := w.Write([]byte("evil"))
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	require.NoError(t, packed.Close())
	return b.String()
}

func TestArchivesStayInTheirDirectory(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"above":            {{Name: "../x"}},
		"absolute":         {{Name: "/tmp/x"}},
		"in a sibling":     {{Name: "other/x"}},
		"a link out":       {{Name: "sub/l", Typeflag: tar.TypeSymlink, Linkname: "../../x"}},
		"an absolute link": {{Name: "sub/l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		"a hard link out":  {{Name: "sub/l", Typeflag: tar.TypeLink, Linkname: "../x"}},
		"a device":         {{Name: "sub/d", Typeflag: tar.TypeChar}},
		"the state":        {{Name: ".transfer/record.json"}},
	} {
		for packing := range packings {
			t.Run(name+" in "+packing, func(t *testing.T) {
				content := archive(t, packing, headers...)
				path, dir := staged(t, content)
				l := layer("sub", content)
				l.Annotations[pack.UnpackAnnotation] = "true"
				require.ErrorIs(t, place(t, dir, entriesOf(t, l)), names.ErrName)
				assert.NoFileExists(t, filepath.Join(path, "..", "x"))
				assert.NoFileExists(t, filepath.Join(path, "other", "x"))
			})
		}
	}
}

func TestAnArchiveIsUnpackedAsItsContentSays(t *testing.T) {
	annotated := map[string]string{pack.UnpackAnnotation: "true", ocispec.AnnotationTitle: "sub"}
	for packing := range packings {
		for mediaType, annotations := range map[string]map[string]string{
			// what oras says of every directory
			"application/vnd.oci.image.layer.v1.tar+gzip":         annotated,
			"application/vnd.oci.image.layer.v1.tar+zstd":         annotated,
			"application/vnd.example.model":                       annotated,
			"application/vnd.cncf.model.weight.v1.tar+" + packing: {pack.FilepathAnnotation: "sub"},
		} {
			mediaType = strings.TrimSuffix(mediaType, "+plain")
			t.Run(mediaType+" in "+packing, func(t *testing.T) {
				content := archive(t, packing, tar.Header{Name: "sub/a"}, tar.Header{Name: "sub/b/c"})
				path, dir := staged(t, content)
				l := layer("sub", content)
				l.MediaType, l.Annotations = mediaType, annotations
				require.NoError(t, place(t, dir, entriesOf(t, l)))
				for _, name := range []string{"a", "b/c"} {
					data, err := os.ReadFile(filepath.Join(path, "sub", name))
					require.NoError(t, err)
					assert.Equal(t, "evil", string(data))
				}
				there, err := dir.There(t.Context(), entriesOf(t, l)[0], false)
				require.NoError(t, err)
				assert.True(t, there)
			})
		}
	}
}

func TestAnArchiveWithoutADirectoryIsUnpacked(t *testing.T) {
	content := archive(t, "gzip", tar.Header{Name: "weights.bin"})
	path, dir := staged(t, content)
	l := layer("weights", content)
	l.MediaType = "application/vnd.cncf.model.weight.v1.tar+gzip"
	require.NoError(t, place(t, dir, entriesOf(t, l)))
	assert.FileExists(t, filepath.Join(path, "weights.bin"))
}

// git archive writes the commit into a global header, which is no file.
func TestAGlobalHeaderIsPassedOver(t *testing.T) {
	global := tar.Header{
		Typeflag:   tar.TypeXGlobalHeader,
		Name:       "pax_global_header",
		PAXRecords: map[string]string{"comment": "v1"},
	}
	for packing := range packings {
		content := archive(t, packing, global, tar.Header{Name: "sub/a"})
		path, dir := staged(t, content)
		l := layer("sub", content)
		l.Annotations[pack.UnpackAnnotation] = "true"
		require.NoError(t, place(t, dir, entriesOf(t, l)), packing)
		assert.FileExists(t, filepath.Join(path, "sub", "a"))
		assert.NoFileExists(t, filepath.Join(path, "pax_global_header"))
	}
}

func TestALinkInsideAnArchiveIsKept(t *testing.T) {
	content := archive(
		t, "gzip",
		tar.Header{Name: "sub/a"},
		tar.Header{Name: "sub/l", Typeflag: tar.TypeSymlink, Linkname: "a"},
		tar.Header{Name: "sub/h", Typeflag: tar.TypeLink, Linkname: "sub/a"},
	)
	path, dir := staged(t, content)
	l := layer("sub", content)
	l.Annotations[pack.UnpackAnnotation] = "true"
	err := place(t, dir, []unpack.Entry{{Title: "sub", Layer: l, Archive: true}})
	if err != nil &&
		runtime.GOOS == "windows" {
		t.Skip(err)
	}
	for _, name := range []string{"a", "l", "h"} {
		data, err := os.ReadFile(filepath.Join(path, "sub", name))
		require.NoError(t, err)
		assert.Equal(t, "evil", string(data))
	}
}

func TestARecordThatIsDamagedIsForgotten(t *testing.T) {
	path, dir := staged(t, "x")
	require.NoError(t, os.WriteFile(filepath.Join(dir.Stage(), "record.json"), []byte("{"), 0o600))
	again, err := unpack.OpenExisting(path)
	require.NoError(t, err)
	defer again.Close()
	assert.Empty(t, again.Record.Digest)
}

func TestAFileIsWrittenWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "manifest.json")
	require.NoError(t, unpack.WriteFile(path, []byte("old and longer")))
	require.NoError(t, unpack.WriteFile(path, []byte("new")))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "new", string(data))
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestAFileThatCannotBePlacedLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "manifest.json")
	require.NoError(t, os.Mkdir(path, 0o755))
	require.Error(t, unpack.WriteFile(path, []byte("new")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestALayoutIsNotMadeOfAnotherDirectory(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
	_, err := unpack.OpenOCI(dir)
	require.ErrorIs(t, err, os.ErrExist)
}

// endsWith is a context that ends when a file is there.
type endsWith struct {
	context.Context
	path string
}

func (c endsWith) Err() error {
	if _, err := os.Stat(c.path); err == nil {
		return context.Canceled
	}
	return nil
}

// A pull that is interrupted among its archives has them still, and fetches none again.
func TestL3AnArchiveStaysUntilItIsRecorded(t *testing.T) {
	var entries []unpack.Entry
	path := t.TempDir()
	dir, err := unpack.Open(path)
	require.NoError(t, err)
	defer dir.Close()
	staged := func(i int) string {
		return filepath.Join(dir.Stage(), pack.BlobName(digest.Digest(entries[i].Layer.Digest)))
	}
	for i, name := range []string{"a", "b"} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name + "/x", Mode: 0o644, Size: 1}))
		_, err := w.Write([]byte("1"))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		l := layer(name, archive.String())
		l.Annotations[pack.UnpackAnnotation] = "true"
		entries = append(entries, entriesOf(t, l)...)
		require.NoError(t, os.WriteFile(staged(i), archive.Bytes(), 0o600))
	}
	ctx := endsWith{t.Context(), filepath.Join(path, "a", "x")}
	require.ErrorIs(t, dir.Place(ctx, entries, entries), context.Canceled)
	assert.FileExists(t, staged(0))
	require.NoError(t, place(t, dir, entries))
	require.NoError(t, dir.Save())
	assert.NoFileExists(t, staged(0))
	assert.NoFileExists(t, staged(1))
	assert.FileExists(t, filepath.Join(path, "b", "x"))
}
