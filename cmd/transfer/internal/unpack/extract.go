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
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/pack"
)

// extract unpacks an archive. Its names are paths in the directory; those of a directory that oras
// has packed begin with its title.
func (d *Dir) extract(ctx context.Context, blob string, e Entry) error {
	f, err := d.root.Open(blob)
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := decompress(pack.Reader(ctx, f))
	if err != nil {
		return err
	}
	defer content.Close()
	confined := e.Layer.Annotations[pack.UnpackAnnotation] == "true"
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, tar.ErrHeader) {
			return fmt.Errorf("%w: %w", ErrPacked, err)
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeXGlobalHeader || path.Clean(header.Name) == "." {
			continue // neither has a file; git archive begins with the former
		}
		name, err := checkTitle(header.Name)
		if err != nil {
			return err
		}
		if confined && name != e.Title && !strings.HasPrefix(name, e.Title+"/") {
			return fmt.Errorf("%w: %q is not in the directory %q", ErrTitle, name, e.Title)
		}
		if err := d.extractOne(archive, header, name); err != nil {
			return err
		}
	}
}

// maxWindow is how much memory a zstd archive may ask for: what "zstd --long" does.
const maxWindow = 128 << 20 // 128 MiB

// decompress finds out from the first bytes of an archive how it is compressed: media types do not always
// say it.
func decompress(r io.Reader) (io.ReadCloser, error) {
	content := bufio.NewReader(r)
	head, err := content.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}): // RFC 1952 section 2.3.1
		return gzip.NewReader(content)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878 section 3.1.1
		d, err := zstd.NewReader(content, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(content), nil
}

// extractOne unpacks one member.
func (d *Dir) extractOne(content io.Reader, h *tar.Header, name string) error {
	if h.Typeflag == tar.TypeDir {
		return d.root.MkdirAll(name, 0o777)
	}
	if err := d.root.MkdirAll(path.Dir(name), 0o777); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return d.create(name, fs.FileMode(h.Mode).Perm()|0o600, content)
	case tar.TypeSymlink:
		target := path.Join(path.Dir(name), h.Linkname)
		if path.IsAbs(h.Linkname) || !filepath.IsLocal(filepath.FromSlash(target)) {
			return fmt.Errorf("%w: link %q leads out of the directory", ErrTitle, name)
		}
		return d.replace(name, func() error { return d.root.Symlink(h.Linkname, name) })
	case tar.TypeLink:
		target, err := checkTitle(h.Linkname)
		if err != nil {
			return err
		}
		return d.replace(name, func() error { return d.root.Link(target, name) })
	default:
		return fmt.Errorf("%w: %q is neither a file nor a directory", ErrTitle, name)
	}
}

func (d *Dir) replace(name string, create func() error) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return create()
}
