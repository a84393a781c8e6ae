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
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/opencontainers/go-digest"
)

// smallFile is up to where a file of several titles is copied, so that who edits one does not edit all.
const smallFile = 64 << 10 // 64 KiB

// placing gives entries their places.
type placing struct {
	*Dir
	ctx    context.Context
	limits Limits
	taken  *names.Set
	write  budget          // what archives and copies may still write
	stream budget          // what archives may still unpack to while they are read
	top    map[string]bool // what will be at the top of the directory, folded
	real   map[string]bool // directories that are known to be directories or missing
	modes  map[string]modes
	clones bool // the disk has reflinks, as far as is known

	// mine are the names of members of archives under which somebody's own files are.
	mine map[string]bool
}

// modes are the permissions that the titles of a blob are to have.
type modes struct {
	titles int
	first  fs.FileMode
	differ bool
}

// Place gives the missing of all entries their titles. Their blobs are in the stage. Nothing gets a name
// before all archives were read through and all names have turned out to go together.
func (d *Dir) Place(ctx context.Context, all, missing []Entry) error {
	p, err := newPlacing(ctx, d, all, missing)
	if err != nil {
		return err
	}
	for _, e := range missing {
		if err := p.plan(e); err != nil {
			return named(e, err)
		}
	}
	if err := p.check(); err != nil {
		return err
	}
	if d.Update.Begun = len(missing) > 0; d.Update.Begun {
		if err := d.makeWay(ctx); err != nil {
			return err
		}
	}
	left := make(map[string]int, len(missing))
	for _, e := range missing {
		left[e.Layer.Digest]++
		if err := p.place(e, left[e.Layer.Digest] == p.modes[e.Layer.Digest].titles); err != nil {
			return named(e, err)
		}
	}
	return d.seeAll(missing)
}

func named(e Entry, err error) error { return fmt.Errorf("%.200s: %w", e.Title, err) }

func newPlacing(ctx context.Context, d *Dir, all, missing []Entry) (*placing, error) {
	taken, err := d.Limits.claim(all, d.folds(d.Update.DryRun))
	if err != nil {
		return nil, err
	}
	p := &placing{
		Dir: d, ctx: ctx, limits: d.Limits.withDefaults(pack.Size(Blobs(missing))), taken: taken,
		top: map[string]bool{}, real: map[string]bool{}, modes: make(map[string]modes, len(missing)),
		clones: true, mine: map[string]bool{},
	}
	p.write, p.stream = budget{p.limits.Bytes, p.limits.Bytes}, budget{p.limits.Bytes, p.limits.Bytes}
	gone := make(map[string]bool, len(missing))
	for _, e := range missing {
		gone[e.Title] = true
		m := p.modes[e.Layer.Digest]
		if m.titles++; m.titles == 1 {
			m.first = e.Mode
		}
		m.differ = m.differ || m.first != e.Mode
		p.modes[e.Layer.Digest] = m
	}
	for _, e := range all {
		if !e.Archive || gone[e.Title] {
			continue
		}
		for _, name := range d.members[e.Title] {
			seen := d.Record.Files[name]
			if err := p.take(e, name, seen.Link, seen.Dir); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// take gives a member of an archive its place. The record has the target of a link and the title too.
func (p *placing) take(e Entry, name, target string, dir bool) error {
	if err := p.taken.AddOf(e.owner(), name, dir); err != nil {
		return err
	}
	p.taken.Keep(len(target) + len(e.Title))
	return p.Limits.within(p.taken)
}

// owner is who has the places of an archive's names, as [names.Set] has it.
func (e Entry) owner() string {
	if e.confined() {
		return e.Title
	}
	return ""
}

// plan finds out what an entry needs.
func (p *placing) plan(e Entry) error {
	if !e.Archive {
		if p.modes[e.Layer.Digest].titles > 1 && e.Layer.Size <= smallFile {
			if err := p.write.spend(e.Layer.Size); err != nil {
				return err
			}
		}
		return p.want(e.Title, false)
	}
	err := p.readArchive(p.ctx, e, p.limits.Depth, &p.stream, func(m member, _ io.Reader) (err error) {
		if err := p.write.spend(m.size); err != nil {
			return err
		}
		if err := p.take(e, m.name, m.target, m.kind == isDirectory); err != nil {
			return err
		}
		if err := p.staysInside(m); err != nil {
			return err
		}
		if p.mine[m.name], err = p.notOurs(p.ctx, m.name); err != nil {
			return err
		}
		return p.want(m.name, m.kind == isDirectory)
	})
	if errors.Is(err, fs.ErrNotExist) && p.placed(e) {
		return nil
	}
	return err
}

// placed tells whether another pull into the directory has placed an entry meanwhile.
func (p *placing) placed(e Entry) bool {
	if e.Archive {
		other, foreign := readRecord(p.stage)
		if foreign || other.Archives[e.Title] != e.Layer.Digest {
			return false
		}
		p.Record.Archives[e.Title], p.members[e.Title] = e.Layer.Digest, nil
		for name, seen := range other.Files {
			if seen.Archive == e.Title {
				p.Record.Files[name] = seen
				p.members[e.Title] = append(p.members[e.Title], name)
			}
		}
	}
	there, err := p.There(p.ctx, e, !e.Archive)
	return there && err == nil
}

// want makes sure that a name can be written.
func (p *placing) want(name string, dir bool) error {
	first, _, _ := strings.Cut(name, "/")
	p.top[names.Fold(first)] = true
	if above := path.Dir(name); p.real[above] {
		info, err := p.root.Lstat(name)
		if err == nil && info.IsDir() != dir && (dir || info.IsDir()) {
			return p.yield(p.ctx, name, dir)
		}
		return nil
	}
	err := p.yield(p.ctx, name, dir)
	if err == nil {
		p.real[path.Dir(name)] = true
	}
	return err
}

// check is what can be said when all names are known.
func (p *placing) check() error {
	if err := p.keepFormAt(p.top); err != nil {
		return err
	}
	need := p.write.most - p.write.left
	if free, known := FreeSpace(p.path); known && need > free {
		return fmt.Errorf("%s: %w: unpacked it is %d bytes, and %d are free", p.path,
			transfer.ErrInsufficientSpace, need, free)
	}
	return nil
}

// place gives one entry its title. The last that has a blob is given the blob itself; archives stay until it
// is recorded that they are unpacked ([Dir.Save]).
func (p *placing) place(e Entry, last bool) error {
	blob := pack.BlobName(digest.Digest(e.Layer.Digest))
	err := p.placeBlob(e, blob, last)
	if errors.Is(err, fs.ErrNotExist) && p.placed(e) {
		return nil
	}
	return err
}

func (p *placing) placeBlob(e Entry, blob string, last bool) error {
	if e.Archive {
		return p.extract(e)
	}
	if err := makeDirs(p.root, path.Dir(e.Title)); err != nil {
		return err
	}
	if last {
		from, name := p.staged(blob)
		return move(p.ctx, from, name, p.root, e.Title)
	}
	return p.share(e, blob)
}

// share gives an entry a blob that other titles have too: by a reflink or, where it is large, a link. It is
// copied where it is small or the disk has neither.
func (p *placing) share(e Entry, blob string) error {
	src, err := rootfile.Open(p.stage, blob, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer src.Close()
	temporary := path.Join(path.Dir(e.Title), temporaryName(path.Base(e.Title)))
	large := e.Layer.Size > smallFile
	err = errNoClone
	if p.clones || !large {
		err = create(p.root, temporary, 0o666, func(f *os.File) error { return p.fillShared(f, src, large) })
	}
	if errors.Is(err, errNoClone) {
		err = p.link(e, blob, temporary, src)
	}
	if err != nil {
		return err
	}
	return p.root.Rename(temporary, e.Title)
}

// fillShared gives a file the content of another. A large one is not copied.
func (p *placing) fillShared(f, src *os.File, large bool) error {
	if p.clones = p.clones && clone(f, src) == nil; p.clones {
		return nil
	}
	if large {
		return errNoClone
	}
	_, err := io.Copy(f, pack.Reader(p.ctx, src))
	return err
}

var errNoClone = errors.New("no reflinks here")

// link makes a link to a blob or, where that cannot be, copies it.
func (p *placing) link(e Entry, blob, name string, src io.Reader) error {
	from, staged := p.staged(blob)
	if from == p.root && !p.modes[e.Layer.Digest].differ {
		if err := remove(p.root, name); err != nil {
			return err
		}
		if p.root.Link(staged, name) == nil {
			return nil
		}
	}
	if err := p.write.spend(e.Layer.Size); err != nil {
		return err
	}
	return copyTo(p.root, name, pack.Reader(p.ctx, src))
}

// seeAll records what has its place. It comes last: a link to a file is a change of the file.
func (d *Dir) seeAll(entries []Entry) error {
	for _, e := range entries {
		if !e.Archive {
			if err := d.see(e, d.Update.DryRun); err != nil {
				return named(e, err)
			}
			continue
		}
		d.Record.Archives[e.Title] = e.Layer.Digest
		for _, name := range d.members[e.Title] {
			info, err := d.root.Lstat(name)
			if err != nil && d.Record.Files[name].Kept {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(d.path, name), err)
			}
			if seen := d.Record.Files[name]; seen.Digest != "" && !seen.Kept {
				d.Record.Files[name] = seen.stamp(info)
			}
		}
	}
	return nil
}
