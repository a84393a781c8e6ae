package pack

import (
	"errors"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/internal/tensorfile"
)

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
		err = errors.New("not a GGUF file")
	}
	return architecture, err
}
