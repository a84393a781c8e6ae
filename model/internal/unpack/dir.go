package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/limit"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrForm is a directory that has a model in another form, or would look as if it had.
var ErrForm = errors.New("named files do not go into a directory of another form")

// Dir is a directory that gets files under their titles. Nothing outside of it is written or read, whatever
// links are in it.
type Dir struct {
	Record Record

	// Limits bound what archives may unpack to.
	Limits Limits

	// Update says what becomes of files that are there already.
	Update Update

	path  string
	root  *os.Root
	stage *os.Root // nil where there is none yet

	foreign bool                // the record is another user's, who can have written anything
	members map[string][]string // what the record has of each archive
	former  map[string]Seen     // what pulls have put here, before this one
	moved   map[string]bool     // of these, the names that get lost because the files get others
	reused  map[string]bool     // digests of what is fetched from the directory itself

	yielding []string // names that give way: to a directory, or with all that is below them to a file
}

// Open opens a directory and makes it where it is missing. It must be closed.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, err
	}
	return open(path, openDir)
}

// OpenExisting opens a directory, and changes nothing in it.
func OpenExisting(path string) (*Dir, error) { return open(path, openExistingDir) }

func open(path string, openStage func(*os.Root, string) (*os.Root, error)) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{root: root, path: path, Record: newRecord(), moved: map[string]bool{}, reused: map[string]bool{}}
	d.stage, err = openStage(root, names.StateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, errors.Join(err, d.Close())
	default:
		d.Record, d.foreign = readRecord(d.stage)
	}
	d.members = d.Record.members()
	d.former = map[string]Seen{}
	if !d.foreign { // it might name what is ours
		maps.Copy(d.former, d.Record.Removed)
		maps.Copy(d.former, d.Record.Files)
	}
	return d, nil
}

// Close closes the directory.
func (d *Dir) Close() error {
	err := d.root.Close()
	if d.stage != nil {
		err = errors.Join(err, d.stage.Close())
	}
	return err
}

// Path is where the directory is, as it was opened.
func (d *Dir) Path() string { return d.path }

// Stage is where blobs arrive before they get their titles, and where what is half there waits.
func (d *Dir) Stage() string { return filepath.Join(d.path, names.StateDir) }

// Save remembers the record, whole or not at all.
func (d *Dir) Save() error { return d.Record.save(d.stage) }

// Remember says which model the directory is. Files of an earlier one that are not in it are forgotten.
func (d *Dir) Remember(reference string, m registry.Manifest, entries []Entry) {
	d.Record.remember(reference, m, entries)
}

// Prepare finds out before the first byte whether all entries of a model can have their places together, on
// the file system of this directory, and those that were chosen in what is there.
func (d *Dir) Prepare(ctx context.Context, all, entries []Entry) error {
	taken, err := d.claim(all)
	if err != nil {
		return err
	}
	if err := d.keepForm(entries); err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.yield(ctx, e.Title, e.Archive); err != nil {
			return err
		}
	}
	return d.within(taken)
}

func (d *Dir) within(taken *names.Set) error {
	if most := d.Limits.withDefaults(0).Files; taken.Len() > most || taken.Size() > most*nameBytes {
		return &limit.Error{Limit: limit.Files, Most: int64(most)}
	}
	return nil
}

// claim gives entries their places in a set. What is in archives gets its place when it is known.
func (d *Dir) claim(entries []Entry) (*names.Set, error) {
	taken := &names.Set{Folding: d.folds()}
	depth := d.Limits.withDefaults(0).Depth
	for _, e := range entries {
		switch {
		case strings.Count(e.Title, "/") >= depth:
			return nil, &limit.Error{Limit: limit.Depth, Most: int64(depth)}
		case !e.Archive:
			if err := taken.Add(e.Title, false); err != nil {
				return nil, err
			}
		}
	}
	for _, e := range entries {
		if !e.confined() {
			continue // its names need not begin with its title
		}
		if err := taken.Own(e.Title); err != nil {
			return nil, err
		}
	}
	return taken, nil
}

// confined tells whether all names of an archive begin with its title, as oras packs directories.
func (e Entry) confined() bool {
	return e.Archive && e.Layer.Annotations[pack.UnpackAnnotation] == "true" && e.Title != "."
}

// folds finds out whether the file system takes different spellings of a name for one.
func (d *Dir) folds() bool {
	const probe, other = "case-probe-\u00e9", "CASE-PROBE-E\u0301"
	if d.stage == nil || d.Update.DryRun || writeFile(d.stage, probe, nil) != nil {
		return runtime.GOOS == "windows" || runtime.GOOS == "darwin"
	}
	defer func() { _ = d.stage.Remove(probe) }()
	for _, spelling := range []string{other, "case-probe-e\u0301", "CASE-PROBE-\u00c9"} {
		if _, err := d.stage.Lstat(spelling); err == nil {
			return true
		}
	}
	return false
}

// keepForm refuses named files in a directory of another form, and those that would make it one: what is
// there would be taken for what a later command trusts.
func (d *Dir) keepForm(entries []Entry) error {
	if kind := pack.KindOf(d.path); kind != pack.Plain {
		return fmt.Errorf("%s: %w: it is %s; pull into another directory", d.path, ErrForm, kind)
	}
	top := map[string]bool{}
	for _, e := range entries {
		first, _, _ := strings.Cut(e.Title, "/")
		top[names.Fold(first)] = true
	}
	return d.keepFormAt(top)
}

// keepFormAt is keepForm for what will be at the top of the directory.
func (d *Dir) keepFormAt(top map[string]bool) error {
	there := func(name string) bool {
		_, err := d.root.Lstat(name)
		return top[name] || err == nil
	}
	if (top["manifests"] || top[ocispec.ImageBlobsDir]) && there("manifests") && there(ocispec.ImageBlobsDir) {
		return fmt.Errorf("%w: %q and %q would make it Ollama's models", ErrForm, "manifests", "blobs")
	}
	if top[pack.ManifestName] && pack.HasBlobs(d.path) {
		return fmt.Errorf(
			"%w: there are blobs in %s, and %s would name them", ErrForm, d.path, pack.ManifestName,
		)
	}
	return nil
}

// free tells whether a path can be written: the directories above it are directories or missing, and it is no
// directory itself.
func (d *Dir) free(name string, dir bool) error {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		err := realDir(d.root, name[:i])
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	info, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && info.IsDir() != dir && (dir || info.IsDir()):
		return inTheWay(d.root, name, info)
	}
	return err
}

// There tells whether the content of an entry has its place already. A file that is known from the record is
// trusted while it was not changed; any other of the right size is hashed, and with again all are.
func (d *Dir) There(ctx context.Context, e Entry, again bool) (bool, error) {
	if e.Archive {
		return d.archiveThere(ctx, e, again)
	}
	info, err := d.root.Lstat(e.Title)
	switch {
	case isMissing(err):
		return false, nil
	case err != nil:
		return false, err
	case info.IsDir() && d.yields(e.Title):
		return false, nil
	case info.IsDir():
		return false, inTheWay(d.root, e.Title, info)
	case !info.Mode().IsRegular() || info.Size() != e.Layer.Size:
		return false, nil
	}
	if seen := d.Record.Files[e.Title]; again || d.foreign || seen.Digest != e.Layer.Digest || !seen.same(info) {
		dg, err := d.hash(ctx, e.Title, digest.Digest(e.Layer.Digest))
		if err != nil || dg.String() != e.Layer.Digest {
			return false, err
		}
	}
	return true, d.see(e)
}

// archiveThere tells whether all that an archive has unpacked to is there.
func (d *Dir) archiveThere(ctx context.Context, e Entry, again bool) (bool, error) {
	if d.foreign || d.Record.Archives[e.Title] != e.Layer.Digest {
		return false, nil
	}
	for _, name := range d.members[e.Title] {
		if seen := d.Record.Files[name]; seen.Kept {
			if !d.Update.Keep {
				return false, nil
			}
			continue
		}
		problem, err := d.check(ctx, name, again)
		if problem != "" || err != nil {
			return false, err
		}
	}
	return true, nil
}

// isMissing also holds where a file has the place of a directory.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// Check hashes a file that is recorded, and says what is wrong with it, or nothing.
func (d *Dir) Check(ctx context.Context, name string) (problem string, err error) {
	return d.check(ctx, name, true)
}

func (d *Dir) check(ctx context.Context, name string, again bool) (problem string, err error) {
	return d.checkSeen(ctx, name, d.Record.Files[name], again)
}

// checkSeen says what is different of a file from when it was seen. Where it looks the same it is trusted,
// unless it is to be hashed again.
func (d *Dir) checkSeen(ctx context.Context, name string, seen Seen, again bool) (problem string, err error) {
	info, err := d.root.Lstat(name)
	switch {
	case isMissing(err):
		return "missing", nil
	case err != nil:
		return "", err
	case seen.Dir:
		return problemIf(!info.IsDir(), "not a directory"), nil
	case seen.Link != "":
		target, err := d.root.Readlink(name)
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
	got, err := d.hash(ctx, name, want)
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

// see records an entry that has its place, and gives it the permissions that the model says.
func (d *Dir) see(e Entry) error {
	info, err := d.root.Lstat(e.Title)
	if err != nil {
		return err
	}
	if mode := permissions(info.Mode(), e.Mode); mode != info.Mode().Perm() && !d.Update.DryRun {
		if err := d.root.Chmod(e.Title, mode); err != nil {
			return err
		}
		if info, err = d.root.Lstat(e.Title); err != nil {
			return err
		}
	}
	seen := Seen{Digest: e.Layer.Digest, Executable: e.Mode&0o100 != 0}
	d.Record.Files[e.Title] = seen.stamp(info)
	return nil
}

// permissions are those of a file that the model says, as far as the umask let the file have them.
func permissions(is, want fs.FileMode) fs.FileMode {
	is = is.Perm()
	if want == 0 || runtime.GOOS == "windows" {
		return is
	}
	if want&0o100 != 0 {
		is |= is & 0o444 >> 2
	}
	return is & (want.Perm() | 0o600)
}

// hash returns the digest of a file, by the algorithm of another digest.
func (d *Dir) hash(ctx context.Context, name string, like digest.Digest) (digest.Digest, error) {
	f, err := rootfile.Open(d.root, name, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digester := like.Algorithm().Digester()
	_, err = io.Copy(digester.Hash(), pack.Reader(ctx, f))
	return digester.Digest(), err
}

// Names lists what is recorded of an entry: itself, or what it has unpacked to.
func (d *Dir) Names(e Entry) []string {
	if e.Archive {
		if d.Record.Archives[e.Title] == "" {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(d.members[e.Title]), func(name string) bool {
			return d.Record.Files[name].Kept
		})
	}
	if _, ok := d.Record.Files[e.Title]; !ok {
		return nil
	}
	return []string{e.Title}
}

// Blobs lists what entries still need, and how many bytes that is.
func Blobs(entries []Entry) (blobs []transfer.Blob, size int64) {
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		if !seen[e.Layer.Digest] {
			seen[e.Layer.Digest] = true
			blobs = append(blobs, e.Layer.Blob())
			size += e.Layer.Size
		}
	}
	return blobs, size
}
