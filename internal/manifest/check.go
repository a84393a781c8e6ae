package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// CheckReference checks a tag or a digest before a URL is made of it.
func CheckReference(ref string) error {
	if strings.Contains(ref, ":") {
		_, err := ParseDigest(ref)
		return err
	}
	if err := wire.CheckTag(ref); err != nil {
		return fmt.Errorf("%w: %w", sentinel.ErrInvalidOption, err)
	}
	return nil
}

// ParseDigest returns the digest that a text is.
func ParseDigest(text string) (digest.Digest, error) {
	dg := digest.Digest(text)
	if err := dg.Validate(); err != nil {
		return "", fmt.Errorf("%w %.100q: %w", sentinel.ErrInvalidDigest, text, err)
	}
	return dg, nil
}

// CheckPush checks whether a manifest can be pushed under a tag or a digest.
func CheckPush(ref string, manifest []byte) error {
	if err := CheckReference(ref); err != nil {
		return err
	}
	if want := digest.Digest(ref); want.Validate() == nil && want.Algorithm().FromBytes(manifest) != want {
		return fmt.Errorf("%w: the manifest to push is not %s", sentinel.ErrDigestMismatch, ref)
	}
	if err := wire.CheckHeader("its media type", MediaType(manifest)); err != nil {
		return fmt.Errorf("%w: %w", sentinel.ErrManifest, err)
	}
	return nil
}

// Check refuses with [sentinel.ErrManifest] what is no manifest, and what [CheckOne] refuses.
func Check(manifest []byte, mediaType string) error {
	if err := CheckObject(manifest); err != nil {
		return err
	}
	if err := CheckOne(manifest, mediaType); err != nil {
		return err
	}
	var d struct {
		document
		SchemaVersion json.RawMessage `json:"schemaVersion"`
	}
	_ = json.Unmarshal(manifest, &d) // CheckOne has read it
	if !present(d.SchemaVersion) && d.MediaType == "" && len(d.kinds()) == 0 {
		return fmt.Errorf("%w: it has none of the fields of one", sentinel.ErrManifest)
	}
	return nil
}

// CheckObject refuses with [sentinel.ErrManifest] what is no JSON object.
func CheckObject(manifest []byte) error {
	if !IsObject(manifest) {
		return fmt.Errorf("%w: it is not a JSON object", sentinel.ErrManifest)
	}
	return nil
}

// IsObject reports whether data is a JSON object.
func IsObject(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) && json.Valid(data)
}

// CheckOne refuses with [sentinel.ErrManifest] a manifest that two readers may take for different ones
// (CVE-2021-41190): by the fields that they look for, by the Content-Type that a server gives it, or by which
// of two fields with one name they take. Content types of no manifest are passed over. What
// is no JSON object is not judged.
func CheckOne(manifest []byte, contentType string) error {
	if !IsObject(manifest) {
		return nil
	}
	if err := checkNames(json.NewDecoder(bytes.NewReader(manifest)), false); err != nil {
		return fmt.Errorf("%w: %w", sentinel.ErrManifest, err)
	}
	var d document
	if err := json.Unmarshal(manifest, &d); err != nil {
		return fmt.Errorf("%w: %w", sentinel.ErrManifest, err)
	}
	kinds := d.kinds()
	if len(kinds) > 1 {
		return fmt.Errorf("%w: it is %q at once (CVE-2021-41190)", sentinel.ErrManifest, kinds)
	}
	told, said := wire.MediaType(contentType), d.MediaType
	if kindOf(told) == "" {
		told = said
	}
	one := said == "" || told == said || kindOf(told) == legacy && kindOf(said) == legacy
	if is := kindOf(told); !one || is != "" && len(kinds) == 1 && kinds[0] != is {
		return fmt.Errorf("%w: it was called %.100q, but is %s (CVE-2021-41190)",
			sentinel.ErrManifest, told, d.describe())
	}
	return nil
}

func (d *document) describe() string {
	if d.MediaType != "" {
		return fmt.Sprintf("%.100q with the fields of %q", d.MediaType, d.kinds())
	}
	return fmt.Sprintf("one with the fields of %q", d.kinds())
}

// names are those that readers look for. Go's encoding/json takes "Layers" for "layers"; others do not.
var names = []string{
	"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "fsLayers", "blobs",
	"subject", "annotations", "digest", "size", "urls", "data", "platform", "os", "architecture", "variant",
}

// checkNames checks the names of all fields of a JSON value: none occurs twice in an object, and none of
// names in two spellings, unless the value is of annotations, whose keys are anybody's.
func checkNames(d *json.Decoder, anybodys bool) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('['):
		for d.More() && err == nil {
			err = checkNames(d, anybodys)
		}
	case json.Delim('{'):
		err = checkFields(d, anybodys)
	default:
		return nil
	}
	if err == nil {
		_, err = d.Token() // its end
	}
	return err
}

// checkFields checks the fields of an object.
func checkFields(d *json.Decoder, anybodys bool) error {
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if !anybodys {
			name = asGoReads(name)
		}
		if seen[name] {
			return fmt.Errorf("the field %.100q occurs twice", name)
		}
		seen[name] = true
		if err := checkNames(d, anybodys || name == "annotations"); err != nil {
			return err
		}
	}
	return nil
}

// asGoReads returns the one of names that encoding/json takes a name for, or the name.
func asGoReads(name string) string {
	for _, known := range names {
		if strings.EqualFold(known, name) {
			return known
		}
	}
	return name
}
