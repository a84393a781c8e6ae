package pack

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Archives returns the manifest of paths: a directory is one layer, and so is a file.
func (s *Stage) Archives(ctx context.Context, paths []string, o Options, c Choice) (Part, error) {
	tops, err := topsOf(paths)
	if err == nil {
		err = together(tops)
	}
	if err != nil {
		return Part{}, err
	}
	var layers []ocispec.Descriptor
	for _, top := range tops {
		switch {
		case top.Info.IsDir():
			layer, err := s.directory(ctx, top, c)
			if err != nil {
				return Part{}, err
			}
			layers = append(layers, layer)
			continue
		case top.isExcluded(c):
			continue
		}
		dg, err := HashFile(ctx, top.Path, digest.Canonical)
		if err == nil {
			err = s.add(top.Path, dg)
		}
		if err != nil {
			return Part{}, err
		}
		layers = append(layers, fileLayer(top, dg, o))
	}
	if len(layers) == 0 {
		return Part{}, errNoneLeft
	}
	return s.manifest(layers, o)
}

// directory packs a directory into one layer, a compressed tar archive, as oras does. The same
// files make the same archive: it has no times and no owners in it.
func (s *Stage) directory(ctx context.Context, top File, c Choice) (d ocispec.Descriptor, err error) {
	files, err := Walk([]string{top.Path}, c)
	if err != nil {
		return d, err
	}
	f, err := os.CreateTemp(s.Dir, "archive-*")
	if err != nil {
		return d, err
	}
	whole, content := digest.Canonical.Digester(), digest.Canonical.Digester()
	zip := gzip.NewWriter(io.MultiWriter(f, whole.Hash()))
	err = writeTar(ctx, io.MultiWriter(zip, content.Hash()), top.Title, files)
	err = errors.Join(err, zip.Close())
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return d, err
	}
	return ocispec.Descriptor{
		MediaType: directoryMediaType, Digest: whole.Digest(), Size: info.Size(),
		Annotations: map[string]string{
			ocispec.AnnotationTitle: top.Title, UnpackAnnotation: "true",
			contentAnnotation: content.Digest().String(),
		},
	}, os.Rename(f.Name(), filepath.Join(s.Dir, BlobName(whole.Digest())))
}

// writeTar writes files below a directory of the given name.
func writeTar(ctx context.Context, w io.Writer, name string, files []File) error {
	archive := tar.NewWriter(w)
	made := map[string]bool{}
	for _, f := range files {
		title := name + "/" + f.Title
		if err := writeParents(archive, title, made); err != nil {
			return err
		}
		if f.Info.IsDir() {
			title += "/"
			if err := writeParents(archive, title, made); err != nil {
				return err
			}
			continue
		}
		if err := writeFile(ctx, archive, title, f); err != nil {
			return err
		}
	}
	return archive.Close()
}

// writeParents writes the directories above a file that are not in the archive yet.
func writeParents(archive *tar.Writer, title string, made map[string]bool) error {
	for i, r := range title {
		if r != '/' || made[title[:i]] {
			continue
		}
		made[title[:i]] = true
		header := &tar.Header{Typeflag: tar.TypeDir, Name: title[:i] + "/", Mode: 0o755}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(ctx context.Context, archive *tar.Writer, title string, f File) error {
	header := &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     title,
		Mode:     int64(f.Mode()),
		Size:     f.Info.Size(),
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	file, err := rootfile.OpenLinked(f.Path)
	if err != nil {
		return pathError(f.Path, err)
	}
	defer file.Close()
	_, err = io.Copy(archive, contextReader{ctx, file})
	return err
}

// Reader returns a reader that ends with a context.
func Reader(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
