package registry

import (
	"context"
	"fmt"
	"strings"
)

// maxListed is how many manifests of an index an error lists.
const maxListed = 20

// Platform returns the manifest of an index for a platform, "os/architecture" or
// "os/architecture/variant" as in "linux/arm64". Of several variants, the first that is listed is taken
// where the platform names none. An empty platform picks the only manifest of an index that has one
// only. What is no index is returned as it is, whatever the platform.
//
// The error is [ErrPlatform] where there is no or more than one manifest to pick, [ErrManifest], or one of
// [Repository.Manifest].
func (r *Repository) Platform(ctx context.Context, m Manifest, platform string) (Manifest, error) {
	if !m.IsIndex() {
		return m, nil
	}
	c, err := m.Content()
	if err != nil {
		return Manifest{}, err
	}
	d, err := pick(c.Manifests, platform)
	if err != nil {
		return Manifest{}, err
	}
	return r.Manifest(ctx, d.Digest)
}

// pick returns the manifest for the platform. The one with that very variant is preferred.
func pick(list []Descriptor, platform string) (Descriptor, error) {
	var found []Descriptor
	for _, d := range list {
		switch {
		case isAttestation(d):
		case platform != "" && normal(d.Platform) == normal(platform):
			return d, nil
		case platform == "", strings.Contains(platform, "/") && strings.HasPrefix(d.Platform, platform+"/"):
			found = append(found, d)
		}
	}
	if len(found) == 1 || len(found) > 1 && platform != "" {
		return found[0], nil
	}
	return Descriptor{}, fmt.Errorf("%w %q: there are %s", ErrPlatform, platform, platforms(list))
}

// normal leaves out the variant that an architecture has anyway, as containerd does.
func normal(platform string) string {
	if platform == "linux/arm64/v8" {
		return "linux/arm64"
	}
	return platform
}

// isAttestation tells the manifests that BuildKit lists beside the one they are about (its attestation
// storage). They have nothing to run.
func isAttestation(d Descriptor) bool {
	return d.Platform == "unknown/unknown" || d.Annotations["vnd.docker.reference.type"] != ""
}

// platforms lists what there is to pick.
func platforms(list []Descriptor) string {
	var names []string
	for _, d := range list {
		switch {
		case isAttestation(d):
		case len(names) == maxListed:
			return strings.Join(names, ", ") + ", ..."
		case d.Platform != "":
			names = append(names, d.Platform)
		default:
			names = append(names, d.Digest)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
