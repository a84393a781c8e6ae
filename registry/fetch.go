package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// manifestTypes are the media types that are asked for.
var manifestTypes = []string{MediaTypeManifest, MediaTypeIndex, MediaTypeDockerManifest, MediaTypeDockerIndex}

// accepted is the Accept header: one for all media types, because some servers read only the first
// (mulgadc/spinifex#399).
var accepted = strings.Join(manifestTypes, ", ")

// Manifest fetches the manifest or index under a tag or a digest, from the mirrors first. A nil error
// means that its bytes are those of its digest: of the one asked for, and of the one that the registry
// named.
//
// Errors are [transfer.ErrInvalidOption] for a malformed tag, [transfer.ErrInvalidDigest],
// [transfer.ErrDigestMismatch], [transfer.ErrProtocol] for an answer that is no manifest or larger than
// 4 MiB, [ErrManifest] for one that can be read as two, [transfer.ErrRetriesExhausted],
// [transfer.ErrStalled], [transfer.ErrRedirectRefused], [transfer.ErrWrongScheme],
// [*transfer.StatusError], those of [Repository.GetToken], and the error of ctx.
func (r *Repository) Manifest(ctx context.Context, ref string) (Manifest, error) {
	if err := manifest.CheckReference(ref); err != nil {
		return Manifest{}, err
	}
	var m Manifest
	err := r.with(ctx, toPull, func(ctx context.Context, c *call) (err error) {
		m, err = c.manifest(ctx, ref)
		return err
	})
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: %w", ref, err)
	}
	return m, nil
}

// Exists reports whether the registry has a manifest under the tag or digest. Mirrors are not asked.
// The errors are those of [Repository.Manifest], except that a 404 is none.
func (r *Repository) Exists(ctx context.Context, ref string) (bool, error) {
	if err := manifest.CheckReference(ref); err != nil {
		return false, err
	}
	err := r.with(ctx, toPull, func(ctx context.Context, c *call) error { return c.probe(ctx, ref) })
	switch {
	case err == nil:
		return true, nil
	case isNotFound(err):
		return false, nil
	}
	return false, fmt.Errorf("manifest %s: %w", ref, err)
}

// probe asks for the headers of a manifest, and for the manifest where these say too little.
func (c *call) probe(ctx context.Context, ref string) error {
	named := false
	req := manifestRequest(http.MethodHead, c.repo.manifestAt(ref))
	err := c.Retry(ctx, req.Target, func(ctx context.Context, b *retry.Budget) error {
		ans, err := c.Send(ctx, req, b, 0, http.StatusMethodNotAllowed, http.StatusNotImplemented)
		if err == nil {
			named = ans.StatusCode == http.StatusOK && namesManifest(ans.Header)
		}
		return err
	})
	if err != nil || named {
		return err
	}
	_, err = c.manifestFrom(ctx, []*source{{registry: c.repo.registry}}, ref)
	return err
}

// namesManifest reports whether the headers of an answer are those of a manifest.
func namesManifest(h http.Header) bool {
	mediaType := wire.MediaType(h.Get("Content-Type"))
	return slices.Contains(manifestTypes, mediaType) || namedDigest(h) != ""
}

// namedDigest returns the digest that an answer names, or "" where it names none that can be checked: what is
// there is hashed in any case.
func namedDigest(h http.Header) digest.Digest {
	d := digest.Digest(h.Get("Docker-Content-Digest"))
	if d.Validate() != nil {
		return ""
	}
	return d
}

func isNotFound(err error) bool {
	status, ok := errors.AsType[*transfer.StatusError](err)
	return ok && status.StatusCode == http.StatusNotFound && !errors.Is(err, errNoMethod)
}

// source is a place that may have a manifest or a blob.
type source struct {
	registry *wire.Registry
	mirror   bool
	health   *health // of a mirror
	over     bool    // a mirror that this call does not ask again
	whole    bool    // it serves no ranges
	faults   int     // bodies that broke
}

// sources are the mirrors and, last, the registry.
func (r *core) sources() (list []*source) {
	for i, m := range r.mirrors {
		list = append(list, &source{registry: m, mirror: true, health: &r.health[i]})
	}
	return append(list, &source{registry: r.registry})
}

// manifest fetches a manifest from the mirrors or, last, the registry.
func (c *call) manifest(ctx context.Context, ref string) (Manifest, error) {
	return c.manifestFrom(ctx, c.repo.sources(), ref)
}

// manifestFrom asks the sources in turn, and again while the failure of the last is temporary.
func (c *call) manifestFrom(ctx context.Context, sources []*source, ref string) (Manifest, error) {
	var m Manifest
	last := c.repo.manifestAt(ref)
	err := c.Retry(ctx, last, func(ctx context.Context, b *retry.Budget) error {
		return c.inTurn(ctx, sources, func(s *source) (err error) {
			m, err = c.fetch(ctx, b, s, ref)
			return err
		})
	})
	return m, err
}

// inTurn asks the sources one after the other until one gives what was asked for. The error is that of the
// last, the registry.
func (c *call) inTurn(ctx context.Context, sources []*source, ask func(*source) error) (err error) {
	for _, s := range sources {
		if s.mirror && !s.worthAsking(c.Exchange) {
			continue
		}
		err = ask(s)
		if s.mirror && err == nil {
			s.health.answered()
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if s.mirror {
			s.over = !retry.Retryable(err)
			s.mirrorFailed(ctx, c.repo.log, err)
		}
	}
	return err
}

// worthAsking tells whether a mirror may have what is asked for.
func (s *source) worthAsking(x *exchange.Exchange) bool {
	return !s.over && x.Held(s.registry.Host()) <= 0 && s.health.worthAsking()
}

// mirrorFailed notes and logs why a mirror did not give what was asked for. Mirrors often do not have it.
// Only the first failure in a row is news.
func (s *source) mirrorFailed(ctx context.Context, log *slog.Logger, err error) {
	level := slog.LevelDebug
	if isNotFound(err) {
		s.health.answered()
	} else if s.health.failed() {
		level = slog.LevelWarn
	}
	log.LogAttrs(ctx, level, "mirror did not give what was asked for",
		slog.String("mirror", s.registry.Host()), slog.Any("error", err))
}

// fetch asks one source once.
func (c *call) fetch(ctx context.Context, b *retry.Budget, s *source, ref string) (Manifest, error) {
	target := s.registry.Manifest(c.repo.opts.Repository, ref)
	ans, err := c.Send(ctx, manifestRequest(http.MethodGet, target), b, maxManifest)
	if err != nil {
		return Manifest{}, err
	}
	return readManifest(ans, ref)
}

func manifestRequest(method string, target wire.Target) wire.Request {
	return wire.Request{Method: method, Target: target, Header: http.Header{"Accept": {accepted}}}
}

// readManifest returns the manifest that the answer is.
func readManifest(a *calls.Answer, ref string) (Manifest, error) {
	contentType := a.Header.Get("Content-Type")
	if a.StatusCode != http.StatusOK || wire.LooksLikeWebPage(a.Header) || !manifest.IsObject(a.Data) {
		return Manifest{}, a.Broken("the answer is not a manifest but %.100q", contentType)
	}
	if err := manifest.CheckOne(a.Data, contentType); err != nil {
		return Manifest{}, retry.Permanent(fmt.Errorf("%s: %w", a.What(), err))
	}
	m := NewManifest(a.Data, manifest.Told(a.Data, contentType))
	for _, want := range []digest.Digest{namedDigest(a.Header), digest.Digest(ref)} {
		if want.Validate() != nil { // a tag, or nothing
			continue
		}
		if got := want.Algorithm().FromBytes(a.Data); got != want {
			return Manifest{}, retry.Permanent(fmt.Errorf("%w: %s: it is %s, not %s",
				transfer.ErrDigestMismatch, a.What(), got, want))
		}
		m.Digest = want.String()
	}
	return m, nil
}
