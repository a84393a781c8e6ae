package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/wire"
)

// manifestTypes are the media types that are asked for.
var manifestTypes = []string{MediaTypeManifest, MediaTypeIndex, MediaTypeDockerManifest, MediaTypeDockerIndex}

// accepted is the Accept header: one for all media types, because there are servers that read only the first.
var accepted = strings.Join(manifestTypes, ", ")

// Manifest fetches the manifest or index under a tag or a digest, from the mirrors first. A nil error
// means that its bytes are those of its digest: of the one asked for, and of the one that the registry
// named.
//
// Errors are [transfer.ErrInvalidOption] for a malformed tag, [transfer.ErrInvalidDigest],
// [transfer.ErrDigestMismatch], [transfer.ErrProtocol] for an answer that is no manifest or larger than
// 4 MiB, [transfer.ErrRetriesExhausted], [transfer.ErrRedirectRefused], [*transfer.StatusError], those
// of [Repository.GetToken], and the error of ctx.
func (r *Repository) Manifest(ctx context.Context, ref string) (Manifest, error) {
	if err := checkRef(ref); err != nil {
		return Manifest{}, err
	}
	sources := r.sources(ref)
	var m Manifest
	err := r.retry(ctx, func() (err error) {
		m, err = r.fetchFromAny(ctx, sources, ref)
		return err
	})
	if err != nil {
		return Manifest{}, ended(ctx, fmt.Errorf("manifest %s: %w", ref, err))
	}
	return m, nil
}

// Exists reports whether the registry has a manifest under the tag or digest. Mirrors are not asked.
// The errors are those of [Repository.Manifest]; what the registry does not have is none.
func (r *Repository) Exists(ctx context.Context, ref string) (bool, error) {
	if err := checkRef(ref); err != nil {
		return false, err
	}
	req := manifestRequest(http.MethodHead, r.registry.Manifest(r.opts.Repository, ref))
	var ans *answer
	err := r.retry(ctx, func() (err error) {
		ans, err = r.call(ctx, req, false)
		if err == nil && ans.status != http.StatusOK && ans.status != http.StatusNotFound {
			err = ans.err()
		}
		return err
	})
	switch {
	case err != nil:
		return false, ended(ctx, fmt.Errorf("manifest %s: %w", ref, err))
	case ans.status == http.StatusNotFound:
		return false, nil
	case namesManifest(ans.header):
		return true, nil
	}
	// 200 alone may be the front page of something else.
	if _, err := r.Manifest(ctx, ref); err != nil {
		return false, err
	}
	return true, nil
}

// namesManifest tells whether the headers of an answer are those of a manifest.
func namesManifest(h http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return slices.Contains(manifestTypes, mediaType) || namedDigest(h) != ""
}

// namedDigest returns the digest that an answer names, or "" where it names none that can be checked.
func namedDigest(h http.Header) digest.Digest {
	d := digest.Digest(h.Get("Docker-Content-Digest"))
	if d.Validate() != nil {
		return ""
	}
	return d
}

// checkRef checks a tag or a digest before a URL is made of it.
func checkRef(ref string) error {
	if strings.Contains(ref, ":") {
		if err := digest.Digest(ref).Validate(); err != nil {
			return fmt.Errorf("%w %.100q: %w", transfer.ErrInvalidDigest, ref, err)
		}
		return nil
	}
	if err := wire.CheckTag(ref); err != nil {
		return fmt.Errorf("%w: %w", transfer.ErrInvalidOption, err)
	}
	return nil
}

// ended makes sure that an error of a context that has ended matches the context's.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// source is a place that may have a manifest.
type source struct {
	target wire.Target
	mirror bool
	over   bool // a mirror that will not have it
}

// sources returns the mirrors and, last, the registry.
func (r *Repository) sources(ref string) []*source {
	var list []*source
	for _, m := range r.mirrors {
		list = append(list, &source{target: m.Manifest(r.opts.Repository, ref), mirror: true})
	}
	return append(list, &source{target: r.registry.Manifest(r.opts.Repository, ref)})
}

// fetchFromAny asks each source once. A mirror that cannot answer is passed over; the error is that of
// the registry.
func (r *Repository) fetchFromAny(ctx context.Context, sources []*source, ref string) (Manifest, error) {
	var err error
	for _, s := range sources {
		if s.over {
			continue
		}
		var m Manifest
		if m, err = r.fetchFrom(ctx, s, ref); err == nil || ctx.Err() != nil {
			return m, err
		}
		if s.mirror {
			s.over = r.passOver(ctx, s, err)
		}
	}
	return Manifest{}, err
}

// passOver logs why a mirror did not answer, and tells whether it never will.
func (r *Repository) passOver(ctx context.Context, s *source, err error) bool {
	var status *transfer.StatusError
	level := slog.LevelWarn
	if errors.As(err, &status) && status.StatusCode == http.StatusNotFound {
		level = slog.LevelDebug // mirrors often do not have what is asked for
	}
	r.log.LogAttrs(ctx, level, "mirror did not give the manifest", slog.String("mirror", s.target.URL.Host),
		slog.Any("error", err))
	var after retryAfterError
	return !retryable(err) || errors.As(err, &after) && after.wait > 0
}

func (r *Repository) fetchFrom(ctx context.Context, s *source, ref string) (Manifest, error) {
	ans, err := r.call(ctx, manifestRequest(http.MethodGet, s.target), false)
	if err != nil {
		return Manifest{}, err
	}
	if ans.status != http.StatusOK {
		return Manifest{}, ans.err()
	}
	return ans.manifest(ref)
}

func manifestRequest(method string, target wire.Target) request {
	return request{
		Request: wire.Request{Method: method, Target: target, Header: http.Header{"Accept": {accepted}}},
		limit:   maxManifest,
	}
}

// manifest returns the manifest that the answer is.
func (a *answer) manifest(ref string) (Manifest, error) {
	mediaType, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if mediaType == "text/html" || !isObject(a.body) {
		return Manifest{}, fmt.Errorf("%w: %s: the answer is not a manifest but %.100q (is this a registry?)",
			transfer.ErrProtocol, a.what(), mediaType)
	}
	m := NewManifest(a.body, knownType(mediaType))
	named := namedDigest(a.header)
	asked := digest.Digest(ref)
	if asked.Validate() != nil {
		asked = named
	}
	for _, want := range []digest.Digest{named, asked} {
		if want == "" {
			continue
		}
		if got := want.Algorithm().FromBytes(a.body); got != want {
			return Manifest{}, fmt.Errorf("%w: %s: it is %s, not %s", transfer.ErrDigestMismatch, a.what(), got, want)
		}
		m.Digest = want.String()
	}
	return m, nil
}

// isObject tells whether data is a JSON object.
func isObject(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) && json.Valid(data)
}

// knownType returns the media type of an answer where it says something of a manifest.
func knownType(mediaType string) string {
	switch mediaType {
	case "application/json", "text/plain", "application/octet-stream":
		return ""
	}
	return mediaType
}

// PutManifest pushes a manifest or an index under a tag or a digest; with an empty ref, under its
// digest. A zero MediaType is found out from the bytes. What the manifest names must be there already:
// see [transfer.Upload], which pushes blobs and then a manifest. A nil error means that the registry
// has confirmed it.
//
// The errors are those of [Repository.Manifest]. Where a registry has refused the manifest, its
// [*transfer.StatusError] says why.
func (r *Repository) PutManifest(ctx context.Context, ref string, m Manifest) error {
	if ref == "" {
		ref = digest.FromBytes(m.Data).String()
	}
	if err := checkRef(ref); err != nil {
		return err
	}
	if want := digest.Digest(ref); want.Validate() == nil && want.Algorithm().FromBytes(m.Data) != want {
		return fmt.Errorf("%w: the manifest to push is not %s", transfer.ErrDigestMismatch, ref)
	}
	mediaType := m.MediaType
	if mediaType == "" {
		mediaType = manifest.MediaType(m.Data)
	}
	req := request{Request: wire.Request{
		Method: http.MethodPut, Target: r.registry.Manifest(r.opts.Repository, ref), Length: int64(len(m.Data)),
		Header: http.Header{"Content-Type": {mediaType}},
		Body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.Data)), nil },
	}, limit: maxManifest}
	err := r.retry(ctx, func() error {
		ans, err := r.call(ctx, req, true)
		if err != nil {
			return err
		}
		return ans.confirm(m.Data)
	})
	if err != nil {
		return ended(ctx, fmt.Errorf("manifest %s: %w", ref, err))
	}
	return nil
}

// confirm tells whether the answer to a PUT says that the registry has the manifest.
func (a *answer) confirm(data []byte) error {
	named := namedDigest(a.header)
	switch {
	case a.status >= http.StatusMultipleChoices:
		return a.err()
	case named != "" && named.Algorithm().FromBytes(data) != named:
		return fmt.Errorf("%w: the registry took the manifest for %s", transfer.ErrDigestMismatch, named)
	case a.status == http.StatusCreated, a.status == http.StatusAccepted, named != "":
		return nil
	}
	return fmt.Errorf("%w: %s: %d without a digest is no confirmation (is this a registry?)",
		transfer.ErrProtocol, a.what(), a.status)
}
