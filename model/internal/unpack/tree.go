package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tree is a directory of named files on the disk. Its stage is below it.
type tree struct {
	path  string
	root  *os.Root
	stage *os.Root // nil where there is none yet
}

// Close closes the directory.
func (t *tree) Close() error {
	err := t.root.Close()
	if t.stage != nil {
		err = errors.Join(err, t.stage.Close())
	}
	return err
}

// Path is where the directory is, as it was opened.
func (t *tree) Path() string { return t.path }

// Stage is where blobs arrive before they get their titles, and where what is half there waits.
func (t *tree) Stage() string { return filepath.Join(t.path, names.StateDir) }

// staged is where something of the stage is: in the directory itself where the stage is no link.
func (t *tree) staged(name string) (*os.Root, string) {
	if realDir(t.root, names.StateDir) == nil {
		return t.root, path.Join(names.StateDir, name)
	}
	return t.stage, name
}

// folds finds out whether the file system takes different spellings of a name for one. A dry run guesses.
func (t *tree) folds(dryRun bool) bool {
	const probe, other = "case-probe-\u00e9", "CASE-PROBE-E\u0301"
	if t.stage == nil || dryRun || writeFile(t.stage, probe, nil) != nil {
		return runtime.GOOS == "windows" || runtime.GOOS == "darwin"
	}
	defer func() { _ = t.stage.Remove(probe) }()
	for _, spelling := range []string{other, "case-probe-e\u0301", "CASE-PROBE-\u00c9"} {
		if _, err := t.stage.Lstat(spelling); err == nil {
			return true
		}
	}
	return false
}

// keepForm refuses named files in a directory of another form, and those that would make it one: what is
// there would be taken for what a later command trusts.
func (t *tree) keepForm(entries []Entry) error {
	if kind := pack.KindOf(t.path); kind != pack.Plain {
		return fmt.Errorf("%s: %w: it is %s; pull into another directory", t.path, ErrForm, kind)
	}
	top := map[string]bool{}
	for _, e := range entries {
		first, _, _ := strings.Cut(e.Title, "/")
		top[names.Fold(first)] = true
	}
	return t.keepFormAt(top)
}

// keepFormAt is keepForm for what will be at the top of the directory.
func (t *tree) keepFormAt(top map[string]bool) error {
	there := func(name string) bool {
		_, err := t.root.Lstat(name)
		return top[name] || err == nil
	}
	const manifests, blobs = "manifests", ocispec.ImageBlobsDir
	if (top[manifests] || top[blobs]) && there(manifests) && there(blobs) {
		return fmt.Errorf("%w: %q and %q would make it Ollama's models", ErrForm, manifests, blobs)
	}
	if top[pack.ManifestName] && pack.HasBlobs(t.path) {
		return fmt.Errorf(
			"%w: there are blobs in %s, and %s would name them", ErrForm, t.path, pack.ManifestName,
		)
	}
	return nil
}

// free tells whether a path can be written: the directories above it are directories or missing, and it is no
// directory itself.
func (t *tree) free(name string, dir bool) error {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		err := realDir(t.root, name[:i])
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	info, err := t.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && info.IsDir() != dir && (dir || info.IsDir()):
		return inTheWay(t.root, name, info)
	}
	return err
}

// obstacle is what is in the way of a name: the first above it that is no directory, or what has the name
// itself.
func (t *tree) obstacle(name string) string {
	for i := range len(name) {
		if name[i] == '/' && errors.Is(realDir(t.root, name[:i]), ErrInTheWay) {
			return name[:i]
		}
	}
	return name
}

// compare says what is different of a file from when it was seen. Where it looks the same it is trusted,
// unless it is to be hashed again.
func (t *tree) compare(ctx context.Context, name string, seen Seen, again bool) (problem string, err error) {
	info, err := t.root.Lstat(name)
	switch {
	case isMissing(err):
		return "missing", nil
	case err != nil:
		return "", err
	case seen.Dir:
		return problemIf(!info.IsDir(), "not a directory"), nil
	case seen.Link != "":
		target, err := t.root.Readlink(name)
		return problemIf(err != nil || target != seen.Link, "not the link that it was"), nil
	case !info.Mode().IsRegular():
		return "not a file", nil
	case info.Size() != seen.Size:
		return fmt.Sprintf("%d bytes instead of %d", info.Size(), seen.Size), nil
	case seen.Executable && !executable(info):
		return "not executable", nil
	case !again && seen.same(info):
		return "", nil
	}
	want := digest.Digest(seen.Digest)
	got, err := t.hash(ctx, name, want)
	return problemIf(err == nil && got != want, "its content does not match its digest"), err
}

func problemIf(wrong bool, problem string) string {
	if wrong {
		return problem
	}
	return ""
}

// executable tells whether a file can be run, where files say so.
func executable(info fs.FileInfo) bool { return runtime.GOOS == "windows" || info.Mode()&0o100 != 0 }

// hash returns the digest of a file, by the algorithm of another digest.
func (t *tree) hash(ctx context.Context, name string, like digest.Digest) (digest.Digest, error) {
	f, err := rootfile.Open(t.root, name, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digester := like.Algorithm().Digester()
	_, err = io.Copy(digester.Hash(), pack.Reader(ctx, f))
	return digester.Digest(), err
}

// bring makes a file a blob of the stage: by a link where it will lose its name, else by a reflink or a copy.
func (t *tree) bring(ctx context.Context, name, blob string, moves bool) error {
	if _, err := t.stage.Lstat(blob); err == nil {
		return nil
	}
	to, target := t.staged(blob)
	if moves && to == t.root && t.root.Link(name, target) == nil {
		return nil
	}
	src, err := rootfile.Open(t.root, name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer src.Close()
	return replace(t.stage, blob, 0o666, func(f *os.File) error { return fill(ctx, f, src) })
}

// removeEarlier removes what an earlier model has brought, and the directories above it that are empty now. A
// directory that is not empty stays.
func (t *tree) removeEarlier(name string, dir bool) error {
	if err := t.root.Remove(name); err != nil && !dir {
		return err
	}
	for above := path.Dir(name); above != "." && t.root.Remove(above) == nil; {
		above = path.Dir(above)
	}
	return nil
}

// staysInside refuses a link that leads out by way of what is there already: a link that the user has made.
func (t *tree) staysInside(m member) error {
	if m.kind != isLink {
		return nil
	}
	_, err := t.root.Stat(path.Join(path.Dir(m.name), m.target))
	if err == nil || isMissing(err) {
		return nil
	}
	return fmt.Errorf(
		"%w: link %.200q leads through a link that was there before: %w", names.ErrName, m.name, err,
	)
}
