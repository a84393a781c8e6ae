// Package names has the one rule about the names of a model's files. What push takes, pull returns under the
// same name, and nothing else is ever written.
package names

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

const (
	// StateDir is where pull keeps what belongs to a directory and not to its model.
	StateDir = ".transfer"

	// RecordName is the file in it that says what the files of a model were.
	RecordName = "record.json"
)

// The longest element and path that file systems take.
const (
	maxElement = 255
	maxPath    = 4095
)

// ErrName is a name that leads out of the directory, that some system cannot have or that means something to
// this program.
var ErrName = errors.New("refused file name")

var (
	// blobName is how the names of blobs begin, and those of their partials and journals.
	blobName = regexp.MustCompile(`^sha(256|384|512)[-:][0-9a-f]{64}`)

	// blobPath is where an OCI layout has a blob.
	blobPath = regexp.MustCompile(`(^|/)sha(256|384|512)/[0-9a-f]{64}`)

	// shortState and shortGit are what Windows calls .transfer and .git where it shortens names.
	shortState = regexp.MustCompile(`^transf~[0-9]`)
	shortGit   = regexp.MustCompile(`^git~[0-9]`)
)

// Check returns a path with slashes in its shortest form. The error is [ErrName].
func Check(name string) (string, error) {
	clean := path.Clean(name)
	refuse := func(why string) (string, error) { return "", fmt.Errorf("%w: %.200q %s", ErrName, name, why) }
	switch {
	case !utf8.ValidString(name):
		return refuse("is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return refuse("has a control character in it")
	case strings.Contains(name, `\`):
		return refuse("has a backslash in it")
	case clean == ".", path.IsAbs(name), !filepath.IsLocal(filepath.FromSlash(clean)):
		return refuse("leads out of the directory")
	case runtime.GOOS == "windows" && strings.ContainsAny(name, `:<>"|?*`):
		return refuse("has a character in it that Windows keeps for itself")
	case len(clean) > maxPath:
		return refuse("is too long")
	}
	for element := range strings.SplitSeq(clean, "/") {
		if len(element) > maxElement {
			return refuse("is too long")
		}
	}
	if why := reserved(Fold(clean)); why != "" {
		return refuse(why)
	}
	return clean, nil
}

// reserved says why a folded path is kept for this program: a later pull would trust what is there.
func reserved(folded string) string {
	if blobPath.MatchString(folded) {
		return "looks like a blob of an OCI layout"
	}
	for element := range strings.SplitSeq(folded, "/") {
		switch {
		case element == "":
			return "is nothing but dots, spaces or characters that are not seen"
		case element == StateDir, strings.HasPrefix(element, StateDir+"."), shortState.MatchString(element):
			return "is kept for this program"
		case blobName.MatchString(element):
			return "looks like a blob"
		case element == ocispec.ImageLayoutFile:
			return "would make the directory an OCI layout"
		}
	}
	return ""
}

// LeftOut tells what neither side takes: what git keeps of its own, since its hooks and its configuration are
// commands, and the icon that macOS keeps of a directory.
func LeftOut(name string) bool {
	for element := range strings.SplitSeq(Fold(name), "/") {
		if element == ".git" || shortGit.MatchString(element) || element == "icon\r" {
			return true
		}
	}
	return false
}

// IsBlob tells what looks like a blob, or what belongs to one. No model can have a file of such a name.
func IsBlob(element string) bool { return blobName.MatchString(Fold(element)) }

// Kept tells what belongs to a directory and not to its model: it is never pushed.
func Kept(element string) bool { return Fold(element) == StateDir }

// Fold returns what is the same for all spellings of a path that some file system takes for one: in upper and
// lower case (macOS, Windows), composed and decomposed (macOS), with code points that are passed over (HFS+,
// casefold of ext4), with dots and spaces at the end (Windows).
func Fold(name string) string {
	name = strings.Map(func(r rune) rune {
		if ignorable(r) {
			return -1
		}
		return r
	}, name)
	name = norm.NFD.String(cases.Fold().String(norm.NFD.String(name)))
	elements := strings.Split(name, "/")
	for i, e := range elements {
		elements[i] = strings.TrimRight(e, ". ")
	}
	return strings.Join(elements, "/")
}

func ignorable(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}
