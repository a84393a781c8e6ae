package unpack

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

const maxRecord = 64 << 20 // 64 MiB

// Record is what is remembered of a directory of files: which model it is, and what each file was when it was
// last looked at.
type Record struct {
	Reference string          `json:"reference,omitempty"`
	Digest    string          `json:"digest,omitempty"`
	Manifest  string          `json:"manifest,omitempty"` // byte for byte
	Files     map[string]Seen `json:"files"`

	// Archives are those that were unpacked, by title, with their digests.
	Archives map[string]string `json:"archives,omitempty"`

	// Removed are files of earlier models that are here still.
	Removed map[string]Seen `json:"removed,omitempty"`
}

// Seen is a file as it was when its digest was known.
type Seen struct {
	Digest string    `json:"digest,omitempty"`
	Size   int64     `json:"size"`
	Time   time.Time `json:"time,omitzero"`

	// Changed is what the system says of when and where the file was changed last.
	Changed string `json:"changed,omitempty"`

	// Executable says that the file has to be.
	Executable bool `json:"executable,omitempty"`

	// Link is the target of a link, and Dir says that it is a directory. Neither has a digest.
	Link string `json:"link,omitempty"`
	Dir  bool   `json:"dir,omitempty"`

	// Archive is the title of the archive that it came in. Empty means that it came by itself.
	Archive string `json:"archive,omitempty"`

	// Kept says that somebody's own file has the name, and was to be kept.
	Kept bool `json:"kept,omitempty"`
}

// same tells whether a file is still as it was seen.
func (s Seen) same(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.Size() == s.Size && info.ModTime().UTC().Equal(s.Time) &&
		changed(info) == s.Changed
}

// stamp adds what a file looks like now.
func (s Seen) stamp(info fs.FileInfo) Seen {
	s.Size, s.Time, s.Changed = info.Size(), info.ModTime().UTC(), changed(info)
	return s
}

// readRecord reads what is remembered. What cannot be read is not remembered, and nor is what was not written
// here: it decides what is not hashed. What another user has written may say what is there, and is foreign:
// all is hashed.
func readRecord(stage *os.Root) (r Record, foreign bool) {
	f, err := rootfile.Open(stage, names.RecordName, os.O_RDONLY)
	if err != nil {
		return newRecord(), false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return newRecord(), false
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	r = newRecord()
	if err != nil || json.Unmarshal(data, &r) != nil || !r.sound() {
		return newRecord(), false
	}
	return r, !rootfile.IsOwn(info)
}

func newRecord() Record { return Record{Files: map[string]Seen{}, Archives: map[string]string{}} }

// sound tells whether a record can be one that was written here.
func (r *Record) sound() bool {
	if r.Files == nil || r.Archives == nil { // null
		return false
	}
	dg := digest.Digest(r.Digest)
	if r.Digest != "" && (dg.Validate() != nil || dg.Algorithm().FromString(r.Manifest) != dg) {
		return false
	}
	for _, files := range []map[string]Seen{r.Files, r.Removed} {
		for name, seen := range files {
			clean, err := names.Check(name)
			plain := seen.Dir || seen.Link != ""
			if err != nil || clean != name || !plain && digest.Digest(seen.Digest).Validate() != nil {
				return false
			}
		}
	}
	return true
}

// Remember makes the record that of a model. Files of an earlier one that are not in it are forgotten.
func (r *Record) Remember(reference string, m registry.Manifest, entries []Entry) {
	titles := make(map[string]bool, len(entries))
	for _, e := range entries {
		titles[e.Title] = true
	}
	kept := newRecord()
	kept.Reference, kept.Digest, kept.Manifest = reference, m.Digest, string(m.Data)
	kept.Removed = r.Removed
	for name, seen := range r.Files {
		if seen.Archive == "" && titles[name] || seen.Archive != "" && titles[seen.Archive] {
			kept.Files[name] = seen
		}
	}
	for title, dg := range r.Archives {
		if titles[title] {
			kept.Archives[title] = dg
		}
	}
	*r = kept
}

// members lists what came in archives, by their titles.
func (r *Record) members() map[string][]string {
	members := map[string][]string{}
	for name, seen := range r.Files {
		if seen.Archive != "" {
			members[seen.Archive] = append(members[seen.Archive], name)
		}
	}
	return members
}

// known is what is recorded of a directory.
type known struct {
	Record Record

	tree    *tree
	foreign bool                // the record is another user's, who can have written anything
	members map[string][]string // what the record has of each archive
}

func readKnown(t *tree) known {
	k := known{Record: newRecord(), tree: t}
	if t.stage != nil {
		k.Record, k.foreign = readRecord(t.stage)
	}
	k.members = k.Record.members()
	return k
}

func (k *known) save() error {
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false) // or names would be six times as long
	encoder.SetIndent("", " ")
	if err := encoder.Encode(k.Record); err != nil {
		return err
	}
	return writeFile(k.tree.stage, names.RecordName, data.Bytes())
}

// Names lists what is recorded of an entry: itself, or what it has unpacked to.
func (k *known) Names(e Entry) []string {
	if e.Archive {
		if k.Record.Archives[e.Title] == "" {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(k.members[e.Title]), func(name string) bool {
			return k.Record.Files[name].Kept
		})
	}
	if _, ok := k.Record.Files[e.Title]; !ok {
		return nil
	}
	return []string{e.Title}
}

// Check says what is wrong with a file that is recorded, or nothing. With again it is hashed in any case.
func (k *known) Check(ctx context.Context, name string, again bool) (problem string, err error) {
	return k.tree.compare(ctx, name, k.Record.Files[name], again)
}

// see records an entry that has its place, and gives it the permissions that the model says, unless it is to
// change nothing.
func (k *known) see(e Entry, dryRun bool) error {
	info, err := k.tree.root.Lstat(e.Title)
	if err != nil {
		return err
	}
	if mode := permissions(info.Mode(), e.Mode); mode != info.Mode().Perm() && !dryRun {
		if err := k.tree.root.Chmod(e.Title, mode); err != nil {
			return err
		}
		if info, err = k.tree.root.Lstat(e.Title); err != nil {
			return err
		}
	}
	seen := Seen{Digest: e.Layer.Digest, Executable: e.Mode&0o100 != 0}
	k.Record.Files[e.Title] = seen.stamp(info)
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

// current returns what tells whether a recorded name is one of a model.
func (k *known) current(all []Entry, folds bool) func(name string) bool {
	titles := make(map[string]bool, len(all))
	folded := map[string]bool{}
	for _, e := range all {
		titles[e.Title] = true
		folded[names.Fold(e.Title)] = true
	}
	return func(name string) bool {
		seen, known := k.Record.Files[name]
		inArchive := known && seen.Archive != "" && titles[seen.Archive]
		return inArchive || titles[name] || folds && folded[names.Fold(name)]
	}
}

// seeMoved looks again at files that have lost their other name: the system takes that for a change.
func (k *known) seeMoved(all []Entry, reused map[string]bool) error {
	for _, e := range all {
		seen, known := k.Record.Files[e.Title]
		if !known || !reused[e.Layer.Digest] {
			continue
		}
		info, err := k.tree.root.Lstat(e.Title)
		if err != nil {
			return err
		}
		if info.Size() == seen.Size && info.ModTime().UTC().Equal(seen.Time) {
			k.Record.Files[e.Title] = seen.stamp(info)
		}
	}
	return nil
}
