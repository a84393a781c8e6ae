package unpack

import (
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

const (
	recordName = "record.json"
	maxRecord  = 64 << 20 // 64 MiB
)

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
	f, err := rootfile.Open(stage, recordName, os.O_RDONLY)
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
	all := maps.Clone(r.Files)
	for name, seen := range r.Removed {
		if _, again := all[name]; !again {
			all[name] = seen
		}
	}
	for name, seen := range all {
		clean, err := names.Check(name)
		plain := seen.Dir || seen.Link != ""
		if err != nil || clean != name || !plain && digest.Digest(seen.Digest).Validate() != nil {
			return false
		}
	}
	return true
}

// remember makes the record that of a model. Files of an earlier one that are not in it are forgotten.
func (r *Record) remember(reference string, m registry.Manifest, entries []Entry) {
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

// save writes the record into a stage, whole or not at all.
func (r *Record) save(stage *os.Root) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return writeFile(stage, recordName, data)
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
