package blobstore

import (
	"context"
	"errors"
	"os"
)

// takeOver adopts what is complete of the blob under the other shared names: what the holders have that were
// passed over, and what others have left who had passed over a holder.
func (p *Partial) takeOver(ctx context.Context, passed int) error {
	if p.record.size < KeepThreshold || passed == 0 && !p.stale.hasAny(p.name) {
		return nil
	}
	for n := range sharedNames {
		name := dataName(p.name, n)
		left := n >= passed
		if name == p.data.name || left && !p.stale.has(p.name, name) {
			continue
		}
		all, err := p.adoptFrom(ctx, name)
		if err != nil {
			return err
		}
		if all && left {
			p.stale.removeData(name)
		}
	}
	return nil
}

// adoptFrom adopts what another data file has by its journal, and tells whether that was all of it: it may
// not be readable, or there is no space. Its holder may still be writing it: what is recorded stays. An error
// is one of this file, or the cause of the context.
func (p *Partial) adoptFrom(ctx context.Context, name string) (all bool, err error) {
	folder := p.data.folder
	f, err := folder.openOwn(name, os.O_RDONLY)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return false, nil
	}
	free, known := freeSpace(folder.root)
	for _, r := range journaled(folder, name, fi.Size(), p.record.size).common(p.Missing()) {
		if free -= r.Len(); known && free < 0 {
			return false, nil
		}
		_, err := p.Adopt(ctx, f, r.Start, r.Start, r.Len())
		if source := (*SourceError)(nil); errors.As(err, &source) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}
