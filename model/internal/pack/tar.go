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
func (s *Stage) Archives(
	ctx context.Context, paths []string, o Options, c Choice,
) (Part, error) {
	var layers []ocispec.Descriptor
	var tops []File
	for _, path := range paths {
		top, err := topOf(path)
		if err != nil {
			return Part{}, err
		}
		tops = append(tops, top)
	}
	if err := together(tops); err != nil {
		return Part{}, err
	}
	for _, path := range paths {
		if isDir(path) {
			layer, err := s.directory(ctx, path, c)
			if err != nil {
				return Part{}, err
			}
			layers = append(layers, layer)
			continue
		}
		files, err := Walk([]string{path}, c)
		if err != nil {
			return Part{}, err
		}
		dg, err := HashFile(ctx, path, digest.Canonical)
		if err != nil {
			return Part{}, err
		}
		layers = append(layers, fileLayer(files[0], dg, o))
		if err := s.Add(path, dg); err != nil {
			return Part{}, err
		}
	}
	return s.Layers(layers, o)
}

// topOf is what a path will be called.
func topOf(path string) (File, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return File{}, err
	}
	info, err := os.Stat(path)
	return File{Path: path, Title: filepath.Base(absolute), Info: info}, err
}

// directory packs a directory into one layer, a compressed tar archive, as oras does. The same
// files make the same archive: it has no times and no owners in it.
func (s *Stage) directory(
	ctx context.Context, path string, c Choice,
) (d ocispec.Descriptor, err error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return d, err
	}
	name := filepath.Base(absolute)
	files, err := Walk([]string{path}, c)
	if err != nil {
		return d, err
	}
	f, err := os.CreateTemp(s.Dir, "archive-*")
	if err != nil {
		return d, err
	}
	whole, content := digest.Canonical.Digester(), digest.Canonical.Digester()
	zip := gzip.NewWriter(io.MultiWriter(f, whole.Hash()))
	err = writeTar(ctx, io.MultiWriter(zip, content.Hash()), name, files)
	err = errors.Join(err, zip.Close())
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return d, err
	}
	return ocispec.Descriptor{
		MediaType: directoryMediaType, Digest: whole.Digest(), Size: info.Size(),
		Annotations: map[string]string{
			ocispec.AnnotationTitle: name, UnpackAnnotation: "true",
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
