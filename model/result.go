package model

import (
	"io/fs"
	"time"

	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/modeltransfer/transfer/model/ref"
)

// Form is the form that a model has in a directory or, for [Push], that it gets at the registry.
type Form string

// Forms of models.
const (
	Auto      Form = ""          // files where the model has names, else blobs; for Push, what the paths are
	Files     Form = "files"     // files under their names, archives unpacked
	Blobs     Form = "blobs"     // sha256-… with their manifest.json
	OCILayout Form = "oci"       // an OCI image layout
	Ollama    Form = "ollama"    // Ollama's models directory; for Push, a model of one GGUF file
	ModelPack Form = "modelpack" // for Push only: the format of CNCF ModelPack
)

// FormOf tells which form the model in a directory has. What is none of the others is [Files].
func FormOf(dir string) Form { return formOf(pack.KindOf(dir)) }

func formOf(kind pack.Kind) Form { return [...]Form{Files, Blobs, OCILayout, Ollama}[kind] }

// Result is what a call came to. That of a call that failed says how far it came.
type Result struct {
	// Reference is what was pulled or pushed, and Digest that of the manifest or index that it names, to pin
	// it by.
	Reference ref.Reference
	Digest    string

	// Platform is what was chosen of an index; empty where the reference names none, or all of it was taken.
	Platform string

	// Form is that of the model in the directory, and Model its name where that has several.
	Form  Form
	Model string

	// Files are what the model consists of, or what was chosen of it: files or, in another form, blobs.
	// Missing are those that were not there when the call began, as far as that can be told without hashing
	// blobs.
	Files, Missing []File

	// Bytes are those of all blobs, each counted once, There those that were there already, and Moved those
	// that came or went, for as long as Took. A call that changes nothing leaves Moved zero. Reused are those
	// that came from other files, and not from the registry.
	Bytes, There, Moved, Reused int64
	Took                        time.Duration

	// Referrers is how many manifests were copied that refer to the model.
	Referrers int

	// Changes are what became of files that were in the directory before.
	Changes []Change

	// Unnamed is how many layers have no name and were left out of the files, and LeftOut the paths that Push
	// has left out though nobody asked for that.
	Unnamed int
	LeftOut []string
}

// File is a file of a model, or a blob.
type File struct {
	Name   string // empty where it has none
	Digest string // of an archive that of the whole
	Size   int64
	Mode   fs.FileMode // permissions where the model says some, or 0

	// Archive says that it is unpacked to files.
	Archive bool
}

// Change is what became of a file that was in the directory before. Its Kind is [Renamed], [Replaced],
// [Kept], [Removed], [Gone] or [Edited], its Name that of the file; From is the name before, of Renamed. Own
// says that no pull has put the file there, or that an earlier one has kept it.
type Change = unpack.Change

// ChangeKind says what became of it.
type ChangeKind = unpack.ChangeKind

// Kinds of changes.
const (
	Renamed  = unpack.Renamed  // its content had another name before, Change.From
	Replaced = unpack.Replaced // it was edited, or somebody's own
	Kept     = unpack.Kept     // the same, with PullOptions.Keep
	Removed  = unpack.Removed  // it is in the model no longer
	Gone     = unpack.Gone     // the same, without PullOptions.Delete: it is there still
	Edited   = unpack.Edited   // the same, but somebody has edited it: it stays
)
