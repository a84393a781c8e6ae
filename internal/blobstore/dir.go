// Package blobstore is a directory of content-addressed blobs that goroutines and processes share. It knows
// what is there and what is half there, and gives a blob its name when all of it is right.
//
// Each of its types uses some of those below it, and none of those above:
//
//	Dir          the blobs of a directory: which are there, and the claim to write one
//	waiter       a claim that waits for another holder, for as long as that one gets on
//	Partial      one claimed blob: its commit, and what stays when it is closed
//	resumption   takes over what earlier runs have left, while the claim is made
//	Writer       one range that is being written
//	hasher       when bytes are hashed: as they are written, in the background, or to verify the digest
//	background   the goroutine of the hasher
//	orderedHash  the hash of the first bytes, without a gap; reads back, and finds damage
//	recorder     which bytes are complete, and which are being written
//	writeState   whether writing has ended, and whether what is recorded survives it
//	journal      the recorder's file, by which the next claim goes on
//	dataFile     the file of the bytes, which is locked while it is claimed
//	staleFiles   what killed processes have left, and its removal
//	finalNames   the files with final names
//	folder       files by name, and which of them are ours
//
// Each has its own lock, where it needs one. A hasher's is held while bytes are read back, and others are
// taken meanwhile; a journal's is held while a record is written. No other is held during I/O, or while one
// more is taken.
package blobstore

import (
	"context"
	"errors"
	"fmt"
	"os"

	_ "crypto/sha256" // the algorithms that go-digest knows
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// errSize is a file or a write that is longer or shorter than the blob.
var errSize = errors.New("wrong size")

// Dir is a directory of blobs, each a file "sha256-<hex>" or a symbolic link to one, since people keep
// their blobs on another disk. Nothing is ever written through a link, and nothing but a final name is read
// through one. Its methods are safe for concurrent use.
type Dir struct {
	// Waiting says how claims wait. It must not change after the first.
	Waiting Waiting

	folder     *folder
	finalNames finalNames
	stale      staleFiles
}

// Open opens a directory for reading and writing, and creates it and its parents where they are missing. The
// path itself may be a link. The error is a [*fs.PathError], with [syscall.ENOTDIR] where a file is in the
// way.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, err
	}
	d, err := OpenSource(path)
	if err != nil {
		return nil, err
	}
	if err := d.stale.find(); err != nil {
		_ = d.folder.root.Close()
		return nil, err
	}
	return d, nil
}

// OpenSource opens a directory for reading. It must exist.
func OpenSource(path string) (*Dir, error) {
	root, err := rootfile.OpenDir(path)
	if err != nil {
		return nil, err
	}
	f := &folder{root: root, path: path, lock: filelock.Lock, copy: copyRange}
	f.buffers.New = newBuffer
	return &Dir{
		folder:     f,
		finalNames: finalNames{folder: f, bad: make(map[string]version)},
		stale:      staleFiles{folder: f, names: make(map[string][]string)},
	}, nil
}

// Close makes the names durable that were given since the directory was opened, and closes it. Partials must
// have been closed before. A file system that cannot sync a directory is no error.
func (d *Dir) Close() error { return errors.Join(d.finalNames.sync(), d.folder.root.Close()) }

// Has tells whether the blob's final name is that of a regular file of that size, or of a link to one. A
// directory in its place is an error, because nothing could replace it.
//
// In a directory that was opened for writing, what earlier runs have left of a blob that is there is removed.
func (d *Dir) Has(dg digest.Digest, size int64) (bool, error) {
	ok, err := d.finalNames.has(nameOf(dg), size)
	if ok {
		d.stale.sweep(nameOf(dg), true)
	}
	return ok, err
}

// Check is Has, and hashes the file. What it finds wrong may then be claimed and replaced.
func (d *Dir) Check(ctx context.Context, dg digest.Digest, size int64) (bool, error) {
	name := nameOf(dg)
	if ok, err := d.finalNames.has(name, size); !ok {
		return false, err
	}
	f, err := d.finalNames.open(name, size)
	if leadsNowhere(err) || errors.Is(err, errSize) || errors.Is(err, rootfile.ErrNotRegular) ||
		errors.Is(err, rootfile.ErrReplaced) {
		return false, nil // replaced since
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	fi, err := f.Stat() // before the hash, so that a later change makes it another version
	if err != nil {
		return false, err
	}
	h := dg.Algorithm().Hash()
	if err := d.folder.readAll(ctx, f, h); err != nil {
		return false, err
	}
	if digest.NewDigest(dg.Algorithm(), h) != dg {
		d.finalNames.distrust(name, fi)
		return false, nil
	}
	d.stale.sweep(name, true)
	return true, nil
}

// Source opens a blob for reading, also through a link at its final name. The error matches
// [rootfile.ErrNotRegular] for a pipe or a device, and [sentinel.ErrSizeMismatch] for a file of another size.
func (d *Dir) Source(dg digest.Digest, size int64) (*os.File, error) {
	f, err := d.finalNames.open(nameOf(dg), size)
	if errors.Is(err, errSize) {
		err = fmt.Errorf("%w: %w", sentinel.ErrSizeMismatch, err)
	}
	return f, err
}

// Path returns the path that the directory was opened with.
func (d *Dir) Path() string { return d.folder.path }

// Free returns how many bytes this user can still write, and whether that is known.
func (d *Dir) Free() (n int64, known bool) { return freeSpace(d.folder.root) }
