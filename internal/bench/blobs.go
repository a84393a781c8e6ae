package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/modeltransfer/transfer/internal/bench/contender"
)

// shelf makes blobs, each once, in a directory.
type shelf struct {
	dir  string
	made map[set][]contender.Blob
}

func newShelf(dir string) (*shelf, error) {
	return &shelf{dir: dir, made: make(map[set][]contender.Blob)}, os.MkdirAll(dir, 0o755)
}

// blobs returns the blobs of a workload.
func (s *shelf) blobs(w workload) (all []contender.Blob, err error) {
	for _, of := range w.sets {
		for i := len(s.made[of]); i < of.count; i++ {
			b, err := s.fill(of, i)
			if err != nil {
				return nil, err
			}
			s.made[of] = append(s.made[of], b)
		}
		all = append(all, s.made[of]...)
	}
	return all, nil
}

// fill writes a blob whose content depends on its set and number only.
func (s *shelf) fill(of set, i int) (contender.Blob, error) {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(of.size))
	binary.LittleEndian.PutUint64(seed[8:], uint64(i))
	return s.save(of.size, func(w io.Writer) error {
		_, err := io.CopyN(w, rand.NewChaCha8(seed), of.size)
		return err
	})
}

// save makes a blob of what is written.
func (s *shelf) save(size int64, write func(io.Writer) error) (b contender.Blob, err error) {
	f, err := os.CreateTemp(s.dir, "new")
	if err != nil {
		return b, err
	}
	h := sha256.New()
	if err := errors.Join(write(io.MultiWriter(f, h)), f.Close()); err != nil {
		return b, err
	}
	b = contender.Blob{Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), Size: size}
	return b, os.Rename(f.Name(), filepath.Join(s.dir, b.File()))
}

// prepare empties a destination and puts those blobs into it that are to be there already.
func (s *shelf) prepare(dest string, there []contender.Blob) error {
	if err := errors.Join(os.RemoveAll(dest), os.MkdirAll(dest, 0o755)); err != nil {
		return err
	}
	for _, b := range there {
		if err := os.Link(filepath.Join(s.dir, b.File()), filepath.Join(dest, b.File())); err != nil {
			return err
		}
	}
	return nil
}

// complete reports whether a destination has all blobs, by their sizes.
func complete(dest string, blobs []contender.Blob) error {
	for _, b := range blobs {
		fi, err := os.Stat(filepath.Join(dest, b.File()))
		if err != nil {
			return err
		}
		if fi.Size() != b.Size {
			return fmt.Errorf("%s has %d of %d bytes", b.File(), fi.Size(), b.Size)
		}
	}
	return nil
}
