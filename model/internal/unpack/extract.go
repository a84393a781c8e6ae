package unpack

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/limit"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// kind is what a member of an archive is.
type kind int

const (
	isFile kind = iota
	isDirectory
	isLink     // to any path
	isHardLink // to a file of the same archive
)

// member is one of an archive, whose name and target were found good.
type member struct {
	name   string
	kind   kind
	size   int64
	mode   fs.FileMode
	target string
}

// readArchive reads an archive of the stage and shows each member. What was read is taken from a budget,
// because a few bytes may unpack to any number.
func (t *tree) readArchive(
	ctx context.Context, e Entry, depth int, stream *budget, visit func(m member, content io.Reader) error,
) error {
	blob := pack.BlobName(digest.Digest(e.Layer.Digest))
	f, err := rootfile.Open(t.stage, blob, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := decompress(ctx, f, stream)
	if err != nil {
		return err
	}
	defer content.Close()
	files := map[string]bool{}
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrHeader):
			return fmt.Errorf("%w: %w", ErrPacked, err)
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case header.Typeflag == tar.TypeXGlobalHeader, path.Clean(header.Name) == ".",
			names.LeftOut(header.Name):
			continue // the first two have no file; git archive begins with the former
		}
		m, err := newMember(e, header, depth, files)
		if err == nil {
			err = visit(m, archive)
		}
		if err != nil {
			return err
		}
	}
}

// newMember checks one member. Files are the files of the archive so far.
func newMember(e Entry, h *tar.Header, depth int, files map[string]bool) (m member, err error) {
	if m.name, err = names.Check(h.Name); err != nil {
		return m, err
	}
	if e.confined() && m.name != e.Title && !strings.HasPrefix(m.name, e.Title+"/") {
		return m, fmt.Errorf("%w: %.200q is not in the directory %.200q", names.ErrName, m.name, e.Title)
	}
	if strings.Count(m.name, "/") >= depth {
		return m, &limit.Error{Limit: limit.Depth, Most: int64(depth)}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		m.kind = isDirectory
	case tar.TypeReg, tar.TypeGNUSparse:
		m.size, m.mode = h.Size, fs.FileMode(h.Mode).Perm()|0o600
		files[m.name] = true
	case tar.TypeSymlink:
		m.kind, m.target = isLink, h.Linkname
		err = checkLink(m.name, h.Linkname)
	case tar.TypeLink:
		m.kind, m.target = isHardLink, path.Clean(h.Linkname)
		if !files[m.target] {
			err = noTarget(m.name)
		}
	default:
		err = fmt.Errorf("%w: %.200q is neither a file nor a directory", names.ErrName, m.name)
	}
	return m, err
}

func noTarget(name string) error {
	return fmt.Errorf("%w: hard link %.200q leads to no file of the archive", names.ErrName, name)
}

// maxTarget is the longest target of a link that file systems take.
const maxTarget = 4095

// linkable are the directories that are opened through a link ([openDir]), because a user may have made one.
// No model makes a link of such a name: behind it could be blobs of its own, which a layout would trust.
var linkable = []string{
	names.StateDir, ocispec.ImageBlobsDir, "manifests",
	digest.SHA256.String(), digest.SHA384.String(), digest.SHA512.String(),
}

// checkLink refuses a link whose target is not below the directory by its own words: the target may go up at
// its beginning alone, and no more often than there are directories above the link. These are directories and
// no links, so that by induction no chain of links leads out.
func checkLink(name, target string) error {
	rest := target
	for strings.HasPrefix(rest, "../") {
		rest = strings.TrimLeft(rest[3:], "/")
	}
	switch {
	case len(target) > maxTarget:
		return fmt.Errorf("%w: link %.200q is too long", names.ErrName, name)
	case target == "", path.IsAbs(target), strings.Contains("/"+rest+"/", "/../"):
		return fmt.Errorf("%w: link %.200q leads out of the directory", names.ErrName, name)
	case slices.Contains(linkable, names.Fold(path.Base(name))):
		return fmt.Errorf("%w: link %.200q is kept for this program", names.ErrName, name)
	}
	where, err := names.Check(path.Join(path.Dir(name), target)) // not further up than the link is deep
	if err == nil && names.LeftOut(where) {
		err = fmt.Errorf("%w: link %.200q leads to what is left out", names.ErrName, name)
	}
	return err
}

// maxWindow is how much memory a zstd archive may ask for: what "zstd --long" does.
const maxWindow = 128 << 20 // 128 MiB

// decompress finds out from the first bytes of an archive how it is compressed: media types do not always
// say it.
func decompress(ctx context.Context, f *os.File, stream *budget) (io.ReadCloser, error) {
	head := make([]byte, 4)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	content := bufio.NewReader(pack.Reader(ctx, f))
	switch head = head[:n]; {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}): // RFC 1952 section 2.3.1
		z, err := gzip.NewReader(content)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPacked, err)
		}
		return bounded{z, stream}, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878 section 3.1.1
		d, err := zstd.NewReader(
			content, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow),
		)
		if err != nil {
			return nil, err
		}
		return bounded{d.IOReadCloser(), stream}, nil
	}
	return io.NopCloser(f), nil // it passes over content by seeking
}

// bounded takes what it reads from a budget.
type bounded struct {
	io.ReadCloser
	left *budget
}

func (b bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if spent := b.left.spend(int64(n)); spent != nil {
		return 0, spent
	}
	return n, err
}

// extract unpacks an archive whose names were found good, and records each.
func (p *placing) extract(e Entry) error {
	for _, name := range p.members[e.Title] {
		delete(p.Record.Files, name)
	}
	delete(p.Record.Archives, e.Title)
	p.members[e.Title] = nil
	again := budget{p.limits.Bytes, p.limits.Bytes}
	return p.readArchive(p.ctx, e, p.limits.Depth, &again, func(m member, content io.Reader) error {
		extract := p.extractOne
		if p.mine[m.name] || p.Record.Files[m.target].Kept && m.kind == isHardLink {
			extract = p.meet
		}
		seen, err := extract(m, content)
		if err != nil {
			return err
		}
		seen.Archive = e.Title
		if _, ok := p.Record.Files[m.name]; !ok {
			p.members[e.Title] = append(p.members[e.Title], m.name)
		}
		p.Record.Files[m.name] = seen
		return nil
	})
}

// meet unpacks one member whose name has a file of somebody's own, or of whose target that holds. With Keep
// that stays, unless it is the member itself: a pull that was interrupted has recorded nothing of it.
func (p *placing) meet(m member, content io.Reader) (Seen, error) {
	if p.Update.Keep {
		seen, err := p.seenOf(m, content)
		if err != nil {
			return seen, err
		}
		problem, err := p.compare(p.ctx, m.name, seen, true)
		if seen.Kept = problem != ""; seen.Kept {
			p.changed(Kept, m.name)
		}
		return seen, err
	}
	before, err := p.hash(p.ctx, m.name, digest.FromString(""))
	seen, failed := p.extractOne(m, content)
	if p.mine[m.name] && (err != nil || before.String() != seen.Digest) {
		p.changed(Replaced, m.name)
	}
	return seen, failed
}

// seenOf is what would be recorded of a member that is not unpacked.
func (p *placing) seenOf(m member, content io.Reader) (Seen, error) {
	switch m.kind {
	case isLink:
		return Seen{Link: m.target}, nil
	case isHardLink:
		return p.Record.Files[m.target], nil
	}
	digester := digest.Canonical.Digester()
	n, err := io.Copy(digester.Hash(), pack.Reader(p.ctx, io.LimitReader(content, m.size)))
	return Seen{Digest: digester.Digest().String(), Size: n, Executable: m.mode&0o100 != 0}, err
}

// extractOne unpacks one member.
func (p *placing) extractOne(m member, content io.Reader) (Seen, error) {
	above := path.Dir(m.name)
	if m.kind == isDirectory {
		above = m.name
	}
	if err := makeDirs(p.root, above); err != nil {
		return Seen{}, err
	}
	switch m.kind {
	case isDirectory:
		return Seen{Dir: true}, nil
	case isLink:
		if err := remove(p.root, m.name); err != nil {
			return Seen{}, err
		}
		return Seen{Link: m.target}, p.root.Symlink(m.target, m.name)
	case isHardLink:
		return p.hardLink(m)
	}
	return p.extractFile(m, content)
}

// extractFile writes a file in the stage and gives it its name when it is whole.
func (p *placing) extractFile(m member, content io.Reader) (Seen, error) {
	root, temporary := p.staged(fmt.Sprintf("unpacked-%016x", rand.Uint64()))
	digester := digest.Canonical.Digester()
	err := create(root, temporary, m.mode, func(f *os.File) error {
		n, err := io.Copy(
			io.MultiWriter(f, digester.Hash()), pack.Reader(p.ctx, io.LimitReader(content, m.size)),
		)
		if err == nil && n != m.size {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err != nil {
		return Seen{}, err
	}
	if err := move(p.ctx, root, temporary, p.root, m.name); err != nil {
		return Seen{}, errors.Join(err, root.Remove(temporary))
	}
	return Seen{Digest: digester.Digest().String(), Size: m.size, Executable: m.mode&0o100 != 0}, nil
}

// hardLink makes a link to a file that the same archive has brought or, where the disk has no links, a copy.
func (p *placing) hardLink(m member) (Seen, error) {
	seen, ok := p.Record.Files[m.target]
	if !ok || seen.Digest == "" {
		return Seen{}, noTarget(m.name)
	}
	if err := remove(p.root, m.name); err != nil {
		return Seen{}, err
	}
	if p.root.Link(m.target, m.name) == nil {
		return seen, nil
	}
	if err := p.write.spend(seen.Size); err != nil {
		return Seen{}, err
	}
	src, err := rootfile.Open(p.root, m.target, os.O_RDONLY)
	if err != nil {
		return Seen{}, err
	}
	defer src.Close()
	return seen, copyTo(p.root, m.name, pack.Reader(p.ctx, src))
}
