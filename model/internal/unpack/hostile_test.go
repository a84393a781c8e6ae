//go:build unix

package unpack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/limit"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unpacked is a layer that oras would unpack.
func unpacked(title, content string) registry.Descriptor {
	l := layer(title, content)
	l.Annotations[pack.UnpackAnnotation] = "true"
	return l
}

// stage puts another blob into the stage of a directory.
func stage(t *testing.T, dir *unpack.Dir, content string) {
	t.Helper()
	name := pack.BlobName(digest.FromString(content))
	require.NoError(t, os.WriteFile(filepath.Join(dir.Stage(), name), []byte(content), 0o600))
}

// namesIn are all names of a directory but the tool's own.
func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == names.StateDir {
			return fs.SkipDir
		}
		if name, _ := filepath.Rel(dir, path); name != "." {
			found = append(found, filepath.ToSlash(name))
		}
		return err
	}))
	return found
}

func TestH1LinksThatLeadOutByOtherLinksAreRefused(t *testing.T) {
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	hard := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
	}
	file := func(name string) tar.Header { return tar.Header{Name: name} }
	for name, headers := range map[string][]tar.Header{
		"through a link":         {link("sub/a", "."), link("sub/b", "a/../../x")},
		"up in the middle":       {file("sub/d/f"), link("sub/l", "d/../../x")},
		"further up than deep":   {link("sub/l", "../../x")},
		"up through slashes":     {link("sub/l", "..//../x")},
		"up with a dot":          {link("sub/l", "./../../x")},
		"to the directory above": {link("sub/l", "..")},
		"absolute":               {link("sub/l", "/etc/passwd")},
		"to nothing":             {link("sub/l", "")},
		"longer than links are":  {file("sub/f"), link("sub/l", strings.Repeat("./", 2048)+"f")},
		"below a link":           {file("sub/d/f"), link("sub/l", "d"), file("sub/l/x")},
		"a link below a link": {
			file("sub/d/e/f"), link("sub/l", "d/e"), link("sub/l/m", "../../../x"),
		},
		"a directory over a link": {
			file("sub/d/f"), link("sub/l", "d"), {Name: "sub/l/", Typeflag: tar.TypeDir},
		},
		"a hard link to a link":      {file("sub/f"), link("sub/l", "f"), hard("sub/h", "sub/l")},
		"a hard link to what is not": {hard("sub/h", "sub/f")},
		"a hard link to a directory": {{Name: "sub/d", Typeflag: tar.TypeDir}, hard("sub/h", "sub/d")},
		"a hard link to the state":   {hard("sub/h", ".transfer/record.json")},
		"a link to the state":        {link("sub/l", "../.transfer/record.json")},
		"a link to a blob":           {link("sub/l", "sha256-"+strings.Repeat("0", 64))},
		"a link named blobs":         {file("sub/d/f"), link("sub/blobs", "d")},
		"a link named manifests":     {file("sub/d/f"), link("sub/manifests", "d")},
		"a link for sha256":          {file("sub/d/f"), link("sub/sha256", "d")},
		"a link for sha384":          {file("sub/d/f"), link("sub/sha384", "d")},
		"a link for sha512":          {file("sub/d/f"), link("sub/SHA512.", "d")},
		"a link over a file":         {file("sub/f"), link("sub/f", "g")},
		"a file over a link":         {link("sub/f", "g"), file("sub/f")},
		"a fifo":                     {{Name: "sub/f", Typeflag: tar.TypeFifo}},
	} {
		t.Run(name, func(t *testing.T) {
			content := archive(t, "gzip", headers...)
			path, dir := staged(t, content)
			require.ErrorIs(t, place(t, dir, entriesOf(t, unpacked("sub", content))), names.ErrName)
			assert.Empty(t, namesIn(t, path), "nothing is written before all is known")
		})
	}
}

func TestH1LinksThatStayAreKept(t *testing.T) {
	content := archive(t, "gzip", tar.Header{Name: "sub/d/f"},
		tar.Header{Name: "sub/d/l", Typeflag: tar.TypeSymlink, Linkname: "../m"},
		tar.Header{Name: "sub/m", Typeflag: tar.TypeSymlink, Linkname: "../sub/d/f"})
	path, dir := staged(t, content)
	require.NoError(t, place(t, dir, entriesOf(t, unpacked("sub", content))))
	data, err := os.ReadFile(filepath.Join(path, "sub", "d", "l"))
	require.NoError(t, err)
	assert.Equal(t, "evil", string(data))
}

// A link that an earlier model has made is not written through, also where it stays in the directory.
func TestH1ParentsAreDirectories(t *testing.T) {
	path, dir := staged(t, "evil")
	require.NoError(t, os.Mkdir(filepath.Join(path, "real"), 0o755))
	require.NoError(t, os.Symlink("real", filepath.Join(path, "sub")))
	entries := []unpack.Entry{{Title: "sub/a", Layer: layer("sub/a", "evil")}}
	require.ErrorIs(t, dir.Prepare(t.Context(), entries, entries), unpack.ErrInTheWay)
	require.ErrorIs(t, place(t, dir, entries), unpack.ErrInTheWay)
	content := archive(t, "plain", tar.Header{Name: "sub/a"})
	stage(t, dir, content)
	require.ErrorIs(t, place(t, dir, entriesOf(t, unpacked("sub", content))), unpack.ErrInTheWay)
	assert.Equal(t, []string{"real", "sub"}, namesIn(t, path))
}

func TestH2ARecordThatWasNotWrittenHereIsHashed(t *testing.T) {
	path, dir := staged(t, "good")
	file := filepath.Join(path, "a")
	require.NoError(t, os.WriteFile(file, []byte("evil"), 0o600))
	when := time.Now().Add(-time.Hour).UTC()
	require.NoError(t, os.Chtimes(file, when, when))
	l := layer("a", "good")
	planted, err := json.Marshal(unpack.Record{Files: map[string]unpack.Seen{
		"a": {Digest: l.Digest, Size: 4, Time: when},
	}, Archives: map[string]string{}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir.Stage(), "record.json"), planted, 0o600))
	again, err := unpack.Open(path)
	require.NoError(t, err)
	defer again.Close()
	require.Contains(t, again.Record.Files, "a")
	there, err := again.There(t.Context(), entriesOf(t, l)[0], false)
	require.NoError(t, err)
	assert.False(t, there)
}

func TestH4PathsOfLayersAreResolvedTogether(t *testing.T) {
	modelPack := func(title, content string) registry.Descriptor {
		l := layer(title, content)
		l.MediaType = "application/vnd.cncf.model.weight.v1.tar"
		return l
	}
	plain := archive(t, "plain", tar.Header{Name: "a"}, tar.Header{Name: "d/b"})
	for name, layers := range map[string][]registry.Descriptor{
		"a file and a directory":           {layer("d", "x"), layer("d/a.txt", "y")},
		"an archive and a file in it":      {unpacked("d", plain), layer("d/a", "y")},
		"two archives of one place":        {unpacked("d", plain), unpacked("d/e", plain+" ")},
		"what is in an archive and a file": {modelPack("w", plain), layer("a", "y")},
		"what is in two archives": {
			modelPack("w", plain), modelPack("v", archive(t, "gzip", tar.Header{Name: "a"})),
		},
		"a directory of an archive": {modelPack("w", plain), layer("d", "y")},
	} {
		t.Run(name, func(t *testing.T) {
			entries, _, err := unpack.Entries(registry.Content{Layers: layers})
			require.NoError(t, err)
			path, dir := staged(t, "y")
			stage(t, dir, plain)
			stage(t, dir, archive(t, "gzip", tar.Header{Name: "a"}))
			err = dir.Prepare(t.Context(), entries, entries)
			if err == nil {
				err = place(t, dir, entries)
			}
			require.ErrorIs(t, err, names.ErrName)
			assert.Empty(t, namesIn(t, path))
		})
	}
}

// bomb is an archive of members that are all zeros.
func bomb(t *testing.T, name string, members int, size int64) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	zeros := make([]byte, size)
	for i := range members {
		header := &tar.Header{Name: name + fmt.Sprint(i), Size: size, Typeflag: tar.TypeReg}
		require.NoError(t, w.WriteHeader(header))
		_, err := w.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return b.String()
}

// sparse is an archive with a file of some bytes that says that it has many more.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	block := make([]byte, 512)
	copy(block, "d/sparse")
	copy(block[100:], "0000644\x00")
	copy(block[108:], "0000000\x000000000\x00")
	copy(block[124:], "00000000000\x00") // no data
	copy(block[136:], "00000000000\x00")
	block[156] = 'S'
	copy(block[257:], "ustar  \x00")
	copy(block[386:], fmt.Sprintf("%011o\x00%011o\x00", size, 0)) // a piece of no bytes at the end
	copy(block[483:], fmt.Sprintf("%011o\x00", size))
	copy(block[148:], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	return string(block) + strings.Repeat("\x00", 1024)
}

func TestH5BombsAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	deep := strings.Repeat("e/", 70)
	long := strings.Repeat(strings.Repeat("n", 200)+"/", 15)
	for name, test := range map[string]struct {
		content string
		limits  unpack.Limits
		want    string
	}{
		"gzip":             {bomb(t, "d/", 1, 80<<20), unpack.Limits{}, limit.Bytes},
		"what is left out": {bomb(t, ".git/", 1, 80<<20), unpack.Limits{}, limit.Bytes},
		"a sparse file":    {sparse(t, 3<<30), unpack.Limits{}, limit.Bytes},
		"files":            {bomb(t, "d/", 300, 0), unpack.Limits{Files: 200}, limit.Files},
		"long names":       {bomb(t, "d/"+long, 50, 0), unpack.Limits{Files: 100}, limit.Files},
		"long targets": {
			archive(t, "gzip", links("d/l", 50, strings.Repeat("./", 1500)+"f")...),
			unpack.Limits{Files: 100}, limit.Files,
		},
		"depth": {
			archive(t, "gzip", tar.Header{Name: "d/" + deep + "f"}), unpack.Limits{}, limit.Depth,
		},
		"a raised limit": {bomb(t, "d/", 300, 0), unpack.Limits{Files: 400}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path, dir := staged(t, test.content)
			dir.Limits = test.limits
			err := place(t, dir, entriesOf(t, unpacked("d", test.content)))
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			var over *limit.Error
			require.ErrorAs(t, err, &over)
			require.ErrorAs(t, err, new(*limit.Error))
			assert.Equal(t, test.want, over.Limit)
			assert.Empty(t, namesIn(t, path))
		})
	}
}

// links are so many links to one target.
func links(name string, n int, target string) (headers []tar.Header) {
	for i := range n {
		headers = append(headers, tar.Header{
			Name: name + fmt.Sprint(i), Typeflag: tar.TypeSymlink, Linkname: target,
		})
	}
	return headers
}

// The record has the title of an archive beside each of its files.
func TestH5LongTitlesOfArchivesAreBounded(t *testing.T) {
	content := bomb(t, "f", 50, 0)
	path, dir := staged(t, content)
	dir.Limits = unpack.Limits{Files: 100}
	l := layer(strings.Repeat(strings.Repeat("n", 200)+"/", 15)+"a", content)
	l.MediaType = "application/vnd.cncf.model.weight.v1.tar"
	require.ErrorAs(t, place(t, dir, entriesOf(t, l)), new(*limit.Error))
	assert.Empty(t, namesIn(t, path))
}

// What a zstd archive says of its window is how much memory it costs.
func TestH5ZstdWindowsAreBounded(t *testing.T) {
	frame := func(log byte) string {
		return "\x28\xb5\x2f\xfd\x00" + string([]byte{(log - 10) << 3}) + "\x01\x00\x00"
	}
	for log, refused := range map[byte]bool{20: false, 27: false, 28: true, 30: true, 41: true} {
		content := frame(log)
		_, dir := staged(t, content)
		err := place(t, dir, entriesOf(t, unpacked("d", content)))
		assert.Equal(t, refused, err != nil, "%d: %v", log, err)
	}
}

func TestH5OneBlobOfManyTitlesIsStoredOnce(t *testing.T) {
	content := strings.Repeat("weights ", 128<<10)
	var layers []registry.Descriptor
	for i := range 2000 {
		layers = append(layers, layer(fmt.Sprintf("f%04d", i), content))
	}
	path, dir := staged(t, content)
	dir.Limits.Bytes = 4 << 20
	entries, _, err := unpack.Entries(registry.Content{Layers: layers})
	require.NoError(t, err)
	err = place(t, dir, entries)
	if limited := (*limit.Error)(nil); err != nil {
		require.ErrorAs(t, err, &limited) // a disk with neither links nor reflinks
		return
	}
	for _, e := range []unpack.Entry{entries[0], entries[999], entries[1999]} {
		there, err := dir.There(t.Context(), e, true)
		require.NoError(t, err)
		assert.True(t, there)
	}
	assert.Len(t, namesIn(t, path), 2000)
}

func TestH5LicencesAreNumberedInOneGo(t *testing.T) {
	var c registry.Content
	for i := range 20_000 {
		c.Layers = append(c.Layers, registry.Descriptor{
			MediaType: "application/vnd.ollama.image.license",
			Digest:    digest.FromString(fmt.Sprint(i)).String(),
		})
	}
	begin := time.Now()
	entries, _, err := unpack.Entries(c)
	require.NoError(t, err)
	assert.Equal(t, "LICENSE-20000", entries[19_999].Title)
	assert.Less(t, time.Since(begin), 10*time.Second) // the square of it took minutes
}

func TestH10PipesInThePlaceOfFilesAreErrors(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "index.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := pack.ReadManifest(filepath.Join(dir, "index.json"))
	require.ErrorContains(t, err, "not a regular file")
	_, err = pack.HashFile(t.Context(), filepath.Join(dir, "index.json"), digest.Canonical)
	require.ErrorContains(t, err, "not a regular file")
	path, d := staged(t, "x")
	require.NoError(t, syscall.Mkfifo(filepath.Join(path, "a"), 0o600))
	there, err := d.There(t.Context(), entriesOf(t, layer("a", "x"))[0], true)
	require.NoError(t, err)
	assert.False(t, there)
	require.NoError(t, syscall.Mkfifo(filepath.Join(d.Stage(), "record.json"), 0o600))
	again, err := unpack.OpenExisting(path)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestH11DirectoriesMayBeLinksAndFilesAreNot(t *testing.T) {
	path, elsewhere := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(path, "blobs")))
	layout, err := unpack.OpenOCI(path)
	require.NoError(t, err)
	defer layout.Close()
	dg := digest.FromString("x")
	require.NoError(t, os.WriteFile(filepath.Join(layout.Stage(), pack.BlobName(dg)), []byte("x"), 0o600))
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	require.NoError(t, os.Symlink(victim, filepath.Join(elsewhere, "sha256", dg.Encoded())))
	require.NoError(t, os.Symlink(victim, filepath.Join(path, "index.json")))
	b := transfer.Blob{Digest: dg.String(), Size: 1}
	require.NoError(t, layout.Place(t.Context(), []transfer.Blob{b}))
	there, err := layout.There(b)
	require.NoError(t, err)
	assert.True(t, there)
	assert.NoDirExists(t, filepath.Join(path, "blobs.new"))

	_, err = unpack.OllamaStage(path)
	require.NoError(t, err)
	require.NoError(t, unpack.PutOllama(path, "h", "n/m", "t", []byte("{}")))
	require.NoError(t, os.Remove(filepath.Join(path, "manifests", "h", "n", "m", "t")))
	require.NoError(t, os.Symlink(victim, filepath.Join(path, "manifests", "h", "n", "m", "t")))
	require.NoError(t, unpack.PutOllama(path, "h", "n/m", "t", []byte("{}")))
	host := filepath.Join(path, "manifests", "h")
	require.NoError(t, os.Rename(host, filepath.Join(path, "manifests", "g")))
	require.NoError(t, os.Symlink("g", host))
	require.ErrorIs(t, unpack.PutOllama(path, "h", "n/m", "t", []byte("{}")), unpack.ErrInTheWay)
	require.NoError(t, unpack.WriteFile(filepath.Join(path, "index.json"), []byte("{}")))
	data, err := os.ReadFile(victim)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(data))
}

func TestH11LinksOfSomebodyElseAreNotFollowed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of somebody else")
	}
	path, elsewhere := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(path, ".transfer")))
	require.NoError(t, os.Lchown(filepath.Join(path, ".transfer"), 12345, 12345))
	_, err := unpack.Open(path)
	require.ErrorIs(t, err, unpack.ErrInTheWay)
}

func TestL2DamageOfWhatWasUnpackedIsSeen(t *testing.T) {
	content := archive(t, "gzip", tar.Header{Name: "sub/a"}, tar.Header{Name: "sub/b/c"},
		tar.Header{Name: "sub/empty/", Typeflag: tar.TypeDir},
		tar.Header{Name: "sub/l", Typeflag: tar.TypeSymlink, Linkname: "a"})
	entry := entriesOf(t, unpacked("sub", content))[0]
	for name, damage := range map[string]func(sub string) error{
		"a file is gone": func(sub string) error { return os.Remove(filepath.Join(sub, "a")) },
		"a file was edited": func(sub string) error {
			return os.WriteFile(filepath.Join(sub, "b", "c"), []byte("good"), 0o600)
		},
		"all is gone":         func(sub string) error { return os.RemoveAll(sub) },
		"a directory is gone": func(sub string) error { return os.Remove(filepath.Join(sub, "empty")) },
		"a link leads away":   func(sub string) error { return relink(filepath.Join(sub, "l"), "b/c") },
		"a file is a link":    func(sub string) error { return relink(filepath.Join(sub, "b", "c"), "../a") },
	} {
		t.Run(name, func(t *testing.T) {
			path, dir := staged(t, content)
			require.NoError(t, place(t, dir, []unpack.Entry{entry}))
			require.NoError(t, dir.Save())
			there, err := dir.There(t.Context(), entry, false)
			require.NoError(t, err)
			require.True(t, there)
			require.NoError(t, damage(filepath.Join(path, "sub")))
			again, err := unpack.OpenExisting(path)
			require.NoError(t, err)
			defer again.Close()
			problems := 0
			for _, name := range again.Names(entry) {
				problem, err := again.Check(t.Context(), name, true)
				require.NoError(t, err)
				if problem != "" {
					problems++
				}
			}
			assert.Positive(t, problems)
			there, err = again.There(t.Context(), entry, false)
			require.NoError(t, err)
			assert.False(t, there)
			stage(t, again, content)
			require.NoError(t, place(t, again, []unpack.Entry{entry}))
			there, err = again.There(t.Context(), entry, true)
			require.NoError(t, err)
			assert.True(t, there)
		})
	}
}

func relink(name, target string) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	return os.Symlink(target, name)
}

// A stage behind a link is another file system as far as a rename goes.
func TestS26FilesOfAnotherFileSystemAreCopied(t *testing.T) {
	path, elsewhere := t.TempDir(), t.TempDir()
	if memory, err := os.MkdirTemp("/dev/shm", "stage-*"); err == nil { // without reflinks to it
		elsewhere = memory
		defer os.RemoveAll(memory)
	}
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(path, names.StateDir)))
	dir, err := unpack.Open(path)
	require.NoError(t, err)
	defer dir.Close()
	content := archive(t, "gzip", tar.Header{Name: "sub/a"})
	stage(t, dir, content)
	stage(t, dir, "x")
	entries, _, err := unpack.Entries(registry.Content{Layers: []registry.Descriptor{
		unpacked("sub", content), layer("d/x", "x"),
	}})
	require.NoError(t, err)
	require.NoError(t, dir.Prepare(t.Context(), entries, entries))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, dir.Place(ended, entries, entries[1:]), context.Canceled, "a copy may take long")
	require.NoError(t, place(t, dir, entries))
	require.NoError(t, dir.Save())
	for _, e := range entries {
		there, err := dir.There(t.Context(), e, true)
		require.NoError(t, err)
		assert.True(t, there)
	}
	left, err := os.ReadDir(elsewhere)
	require.NoError(t, err)
	assert.Len(t, left, 1, "only the record stays")
}
