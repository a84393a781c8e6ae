package pack

import (
	"errors"
	"fmt"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/internal/tensorfile"
)

// ErrNotGGUF is a file that is not in the format of llama.cpp.
var ErrNotGGUF = errors.New("not a GGUF file")

// ggufArchitecture returns the architecture that a GGUF file names, or "".
func ggufArchitecture(path string) (string, error) {
	f, err := rootfile.OpenLinked(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	architecture, err := tensorfile.Architecture(f, info.Size())
	if errors.Is(err, tensorfile.ErrNone) {
		err = fmt.Errorf("%w: %w", ErrNotGGUF, err)
	}
	return architecture, err
}
