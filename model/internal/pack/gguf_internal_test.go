package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modeltransfer/transfer/internal/tensorfile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ggufString is the type of a string in the header of a GGUF file.
const ggufString = 8

// gguf makes the beginning of a file of pairs.
func gguf(pairs ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(pairs)))
	for _, p := range pairs {
		b = append(b, p...)
	}
	return b
}

func pair(key string, kind uint32, value []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(key)))
	b = binary.LittleEndian.AppendUint32(append(b, key...), kind)
	return append(b, value...)
}

func text(s string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(s))), s...)
}

func architectureOf(t *testing.T, content []byte) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return ggufArchitecture(path)
}

func TestTheArchitectureIsFoundBehindOtherPairs(t *testing.T) {
	got, err := architectureOf(t, gguf(
		pair("general.name", ggufString, text("a model")), pair("general.alignment", 4, make([]byte, 4)),
		pair("general.architecture", ggufString, text("llama"))))
	require.NoError(t, err)
	assert.Equal(t, "llama", got)
}

func TestAFileWithoutAnArchitectureIsAModelToo(t *testing.T) {
	for _, content := range [][]byte{
		gguf(),
		gguf(pair("tokens", 9, make([]byte, 12)), pair("general.architecture", ggufString, text("llama"))),
		gguf(pair("general.architecture", 4, make([]byte, 4))),
	} {
		got, err := architectureOf(t, content)
		require.NoError(t, err)
		assert.Empty(t, got)
	}
}

func TestWhatIsNoGGUFIsRefused(t *testing.T) {
	endless := binary.LittleEndian.AppendUint64(nil, 1<<62)
	for name, content := range map[string][]byte{
		"empty": nil, "text": []byte(strings.Repeat("text", 100)), "cut": gguf()[:10],
		"version 1":           append([]byte("GGUF\x01\x00\x00\x00"), make([]byte, 16)...),
		"a key without end":   append(gguf(nil), endless...),
		"a value that is cut": gguf(pair("general.architecture", ggufString, endless)),
	} {
		got, err := architectureOf(t, content)
		assert.Empty(t, got, name)
		if name != "a key without end" {
			require.Error(t, err, name)
		}
	}
}

// brokenDisk reads no more than the beginning of a file.
type brokenDisk struct{ io.ReaderAt }

var errBroken = errors.New("the disk is broken")

func (d brokenDisk) ReadAt(p []byte, at int64) (int, error) {
	n, _ := d.ReaderAt.ReadAt(p[:24], at)
	return n, errBroken
}

func TestAFileThatCannotBeReadIsNoFileWithoutAnArchitecture(t *testing.T) {
	content := gguf(pair("general.architecture", ggufString, text("llama")))
	_, err := tensorfile.Architecture(brokenDisk{bytes.NewReader(content)}, int64(len(content)))
	require.ErrorIs(t, err, errBroken)
}

func FuzzGGUF(f *testing.F) {
	f.Add(gguf(pair("general.architecture", ggufString, text("llama"))))
	f.Add(gguf(pair("tokens", 9, make([]byte, 12))))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := architectureOf(t, content)
		assert.LessOrEqual(t, len(got), len(content))
		assert.True(t, err == nil || got == "" || len(got) <= 1<<20)
	})
}

func TestTheKindOfAFileFollowsItsName(t *testing.T) {
	for title, want := range map[string]string{
		"model-00001-of-00002.safetensors": kindWeight, "a/b.GGUF": kindWeight, "tokenizer.json": kindConfig,
		"tokenizer.model": kindConfig, "README": kindDoc, "LICENSE.txt": kindDoc, "Modelfile": kindConfig,
		"modeling.py": kindCode, "train.parquet": kindDataset,
	} {
		kind, known := kindOf(title, 10)
		assert.Equal(t, want, kind, title)
		assert.True(t, known, title)
	}
	kind, known := kindOf("consolidated.00", unknownWeight)
	assert.Equal(t, kindWeight, kind)
	assert.False(t, known)
	kind, known = kindOf("merges", 10)
	assert.Equal(t, kindConfig, kind)
	assert.False(t, known)
}

func TestFilesOfOneNameAreRefused(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	for _, dir := range []string{one, two} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "same"), nil, 0o600))
	}
	_, err := Walk([]string{filepath.Join(one, "same"), filepath.Join(two, "same")}, Choice{})
	require.ErrorIs(t, err, errTwice)
}
