package unpack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/pack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

const (
	recordName = pack.StateDir + "/record.json"
	maxRecord  = 64 << 20 // 64 MiB
)

// Record is what is remembered of a directory of files: which model it is, and which files were
// right when they were last looked at.
type Record struct {
	Reference string          `json:"reference,omitempty"`
	Digest    string          `json:"digest,omitempty"`
	Manifest  string          `json:"manifest,omitempty"` // byte for byte
	Files     map[string]Seen `json:"files"`
}

// Seen is a file as it was when its digest was known.
type Seen struct {
	Digest string    `json:"digest"`
	Size   int64     `json:"size"`
	Time   time.Time `json:"time"`
}

// Dir is a directory that gets files under their titles. Nothing outside of it is written, whatever
// links are in it.
type Dir struct {
	root   *os.Root
	path   string
	Record Record
}

// Open opens a directory and makes it where it is missing. It must be closed.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, err
	}
	return OpenExisting(path)
}

// OpenExisting opens a directory.
func OpenExisting(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{root: root, path: path}
	d.readRecord()
	return d, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Stage is where blobs arrive before they get their titles, and where what is half there waits.
func (d *Dir) Stage() string { return filepath.Join(d.path, pack.StateDir) }

// readRecord reads what is remembered. What cannot be read is not remembered.
func (d *Dir) readRecord() {
	d.Record.Files = map[string]Seen{}
	f, err := d.root.Open(recordName)
	if err != nil {
		return
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil || json.Unmarshal(data, &d.Record) != nil || d.Record.Files == nil {
		d.Record = Record{Files: map[string]Seen{}}
	}
}

// Save remembers the record, whole or not at all.
func (d *Dir) Save() error {
	data, err := json.MarshalIndent(d.Record, "", " ")
	if err != nil {
		return err
	}
	return d.writeFile(recordName, data)
}

// writeFile gives a file its content, whole or not at all.
func (d *Dir) writeFile(name string, data []byte) error {
	if err := d.root.MkdirAll(path.Dir(name), 0o777); err != nil {
		return err
	}
	temporary := name + ".new"
	if err := d.root.WriteFile(temporary, data, 0o666); err != nil {
		return err
	}
	return d.root.Rename(temporary, name)
}

// There tells whether the content of an entry has its place already. A file that is known from the
// record is trusted while its size and time are the same; any other of the right size is hashed, and
// with again all are.
func (d *Dir) There(ctx context.Context, e Entry, again bool) (bool, error) {
	info, err := d.root.Stat(e.Title)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	seen := d.Record.Files[e.Title]
	if e.Archive {
		return seen.Digest == e.Layer.Digest && !again, nil
	}
	switch {
	case info.IsDir():
		return false, fmt.Errorf("%s: %w: a directory is in the way", filepath.Join(d.path, e.Title), fs.ErrExist)
	case !info.Mode().IsRegular() || info.Size() != e.Layer.Size:
		return false, nil
	case !again && seen == (Seen{e.Layer.Digest, info.Size(), info.ModTime().UTC()}):
		return true, nil
	}
	dg, err := d.hash(ctx, e.Title, digest.Digest(e.Layer.Digest).Algorithm())
	if err != nil || dg.String() != e.Layer.Digest {
		return false, err
	}
	d.see(e, info)
	return true, nil
}

func (d *Dir) see(e Entry, info fs.FileInfo) {
	d.Record.Files[e.Title] = Seen{Digest: e.Layer.Digest, Size: info.Size(), Time: info.ModTime().UTC()}
}

func (d *Dir) hash(ctx context.Context, name string, algorithm digest.Algorithm) (digest.Digest, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digester := algorithm.Digester()
	_, err = io.Copy(digester.Hash(), pack.Reader(ctx, f))
	return digester.Digest(), err
}

// Place gives entries their titles. Their blobs are in the stage; one that several titles share is
// copied for all but the last.
func (d *Dir) Place(ctx context.Context, entries []Entry) error {
	uses := make(map[string]int, len(entries))
	for _, e := range entries {
		uses[e.Layer.Digest]++
	}
	for _, e := range entries {
		uses[e.Layer.Digest]--
		err := d.place(ctx, e, uses[e.Layer.Digest] == 0)
		if errors.Is(err, fs.ErrNotExist) { // another pull into the directory may have placed it
			if there, _ := d.There(ctx, e, !e.Archive); there {
				err = nil
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.Title, err)
		}
	}
	return nil
}

func (d *Dir) place(ctx context.Context, e Entry, last bool) error {
	blob := pack.StateDir + "/" + pack.BlobName(digest.Digest(e.Layer.Digest))
	if err := d.root.MkdirAll(path.Dir(e.Title), 0o777); err != nil {
		return err
	}
	switch {
	case e.Archive:
		if err := d.extract(ctx, blob, e); err != nil {
			return err
		}
		if last {
			if err := d.root.Remove(blob); err != nil {
				return err
			}
		}
	case last:
		if err := d.root.Rename(blob, e.Title); err != nil {
			return err
		}
	default:
		if err := d.copy(ctx, blob, e.Title); err != nil {
			return err
		}
	}
	info, err := d.root.Stat(e.Title)
	if err == nil {
		d.see(e, info)
	}
	if e.Archive && errors.Is(err, fs.ErrNotExist) {
		return nil // the names in an archive need not begin with its title
	}
	return err
}

func (d *Dir) copy(ctx context.Context, from, to string) error {
	src, err := d.root.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return d.create(to, 0o666, pack.Reader(ctx, src))
}

// create writes a file anew: what is there under the name, a link too, is removed and not written through.
func (d *Dir) create(name string, mode fs.FileMode, content io.Reader) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
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

// Remember says which model the directory is. Files of an earlier one that are not in it are forgotten.
func (d *Dir) Remember(reference string, m registry.Manifest, entries []Entry) {
	keep := make(map[string]Seen, len(entries))
	for _, e := range entries {
		if seen, ok := d.Record.Files[e.Title]; ok {
			keep[e.Title] = seen
		}
	}
	d.Record = Record{Reference: reference, Digest: m.Digest, Manifest: string(m.Data), Files: keep}
}
