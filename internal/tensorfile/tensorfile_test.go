package tensorfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/tensorfile"
	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
)

// small is a file of three tensors, one of which is empty.
func small() tensortest.File {
	return tensortest.File{
		Metadata: []string{"general.architecture", "llama", "general.name", "a"},
		Tensors: []tensortest.Tensor{
			{Name: "token_embd.weight", Type: 1, Shape: []uint64{8, 100}, Size: 1600},
			{Name: "norm", Type: 0, Shape: []uint64{5}, Size: 20},
			{Name: "scalar", Type: 0, Size: 4},
		},
	}
}

func read(head []byte, size int64) ([]tensorfile.Tensor, error) {
	return tensorfile.Read(bytes.NewReader(head), int64(len(head)), size)
}

func none(t *testing.T, head []byte, size int64) {
	t.Helper()
	_, err := read(head, size)
	require.ErrorIs(t, err, tensorfile.ErrNone)
}

func TestGGUF(t *testing.T) {
	for _, alignment := range []uint32{0, 32, 64, 8} {
		f := small()
		f.Alignment, f.Vocab = alignment, []string{"<s>", "", "a"}
		l := f.GGUF()
		got, err := read(l.Head, l.Size)
		require.NoError(t, err)
		assert.Equal(t, []tensorfile.Tensor{
			{
				Name: "token_embd.weight", Kind: "1 [8 100]", Longest: 100,
				Range: pieces.Range{Start: l.At[0], End: l.At[1]},
			},
			{Name: "norm", Kind: "0 [5]", Longest: 5, Range: pieces.Range{Start: l.At[1], End: l.At[2]}},
			{Name: "scalar", Kind: "0 []", Range: pieces.Range{Start: l.At[2], End: l.Size}},
		}, got)
	}
}

func TestGGUFVersion2(t *testing.T) {
	l := small().GGUF()
	l.Head[4] = 2
	got, err := read(l.Head, l.Size)
	require.NoError(t, err)
	assert.Len(t, got, 3)
}

func TestSafetensors(t *testing.T) {
	f := small()
	f.Tensors = append(f.Tensors, tensortest.Tensor{Name: "empty", Shape: []uint64{0, 3}})
	l := f.Safetensors()
	got, err := read(l.Head, l.Size)
	require.NoError(t, err)
	assert.Equal(t, []tensorfile.Tensor{
		{
			Name: "token_embd.weight", Kind: "T1[8 100]", Longest: 100,
			Range: pieces.Range{Start: l.At[0], End: l.At[0] + 1600},
		},
		{Name: "norm", Kind: "T0[5]", Longest: 5, Range: pieces.Range{Start: l.At[1], End: l.At[1] + 20}},
		{Name: "scalar", Kind: "T0[]", Range: pieces.Range{Start: l.At[2], End: l.Size}},
	}, got)
}

// whole reads a table whose head comes in pieces, each as long as was asked for, and tells how many those
// were.
func whole(t *testing.T, l tensortest.Layout) (tensors []tensorfile.Tensor, rounds int) {
	t.Helper()
	for have := int64(0); ; rounds++ {
		tensors, err := read(l.Head[:have], l.Size)
		short, ok := errors.AsType[*tensorfile.ShortError](err)
		if !ok {
			require.NoError(t, err)
			return tensors, rounds
		}
		require.Greater(t, short.Need, have, short.Error())
		require.LessOrEqual(t, short.Need, int64(len(l.Head)))
		have = short.Need
	}
}

// The head of a file that is fetched comes in pieces.
func TestHeadThatIsLongerThanWhatIsThere(t *testing.T) {
	f := small()
	for i := range 1000 {
		f.Vocab = append(f.Vocab, fmt.Sprint("token", i))
	}
	for name, l := range map[string]tensortest.Layout{"GGUF": f.GGUF(), "safetensors": f.Safetensors()} {
		t.Run(name, func(t *testing.T) {
			got, _ := whole(t, l)
			assert.Len(t, got, 3)
		})
	}
	_, rounds := whole(t, f.Safetensors())
	assert.Equal(t, 2, rounds, "the first bytes tell how long it is")
}

// A vocabulary with its merges takes 10 MB and more, which are not kept.
func TestLongVocabularyTakesNoMemory(t *testing.T) {
	f := small()
	f.Vocab = make([]string, 200_000)
	for i := range f.Vocab {
		f.Vocab[i] = strings.Repeat("x", 65)
	}
	l := f.GGUF()
	require.Greater(t, len(l.Head), 13<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := read(l.Head, l.Size)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

func TestFilesWithoutATable(t *testing.T) {
	l := small().GGUF()
	for name, head := range map[string][]byte{
		"nothing": {}, "text": []byte(strings.Repeat("some text ", 100)), "zeros": make([]byte, 1000),
		"a version that is not known": append([]byte("GGUF\x04"), l.Head[5:]...),
		"version 1":                   append([]byte("GGUF\x01"), l.Head[5:]...),
		"big-endian":                  append([]byte("GGUF\x00\x00\x00\x03"), l.Head[8:]...),
		"a number":                    append(binary.LittleEndian.AppendUint64(nil, 2), "17"...),
		"no JSON":                     append(binary.LittleEndian.AppendUint64(nil, 5), "{\"a\"!"...),
		"JSON that ends early":        append(binary.LittleEndian.AppendUint64(nil, 5), "{\"a\":"...),
		"no tensors":                  append(binary.LittleEndian.AppendUint64(nil, 2), "{}"...),
	} {
		t.Run(name, func(t *testing.T) { none(t, head, int64(len(head))) })
	}
	none(t, tensortest.File{Metadata: []string{"a", "b"}}.GGUF().Head, 1<<20)
}

// put returns a copy of b with a number in it.
func put(b []byte, at int, v uint64) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint64(b[at:], v)
	return b
}

// A file may say what it wants: it costs neither memory nor time.
func TestHostileGGUF(t *testing.T) {
	f := small()
	f.Vocab = []string{"a", "b"}
	l := f.GGUF()
	name := bytes.Index(l.Head, []byte("norm")) - 8
	vocabulary := bytes.Index(l.Head, []byte("tokenizer.ggml.tokens")) + 21 + 8
	offset := name + 8 + 4 + 4 + 8 + 4
	for what, head := range map[string][]byte{
		"tensors beyond count":    put(l.Head, 8, 1<<63),
		"too many tensors":        put(l.Head, 8, 1<<18),
		"pairs beyond count":      put(l.Head, 16, 1<<63),
		"a key beyond the file":   put(l.Head, 24, 1<<63),
		"values beyond count":     put(l.Head, vocabulary, 1<<63),
		"a string beyond":         put(l.Head, vocabulary+8, 1<<62),
		"a name beyond the limit": put(l.Head, name, 300),
		"an offset beyond":        put(l.Head, offset, 1<<40),
		"an offset that wraps":    put(l.Head, offset, ^uint64(31)),
		"an offset between":       put(l.Head, offset, 1604),
		"two at one offset":       put(l.Head, offset, 0),
	} {
		t.Run(what, func(t *testing.T) {
			_, err := read(head, l.Size)
			require.Error(t, err)
			assert.NotErrorAs(t, err, new(*tensorfile.ShortError))
		})
	}
}

func TestTwoTensorsWithOneName(t *testing.T) {
	f := small()
	f.Tensors[2].Name = f.Tensors[1].Name
	none(t, f.GGUF().Head, f.GGUF().Size)
	none(t, f.Safetensors().Head, f.Safetensors().Size)
}

func TestHostileAlignment(t *testing.T) {
	for _, alignment := range []uint32{3, 48, 1 << 21} {
		f := small()
		f.Alignment = alignment
		l := f.GGUF()
		none(t, l.Head, l.Size)
	}
	f := small()
	f.Alignment = 64
	l := f.GGUF()
	at := bytes.Index(l.Head, []byte("general.alignment")) + 17
	for _, kind := range []uint32{0, 5} {
		head := bytes.Clone(l.Head)
		binary.LittleEndian.PutUint32(head[at:], kind)
		none(t, head, l.Size)
	}
	head := bytes.Clone(l.Head)
	binary.LittleEndian.PutUint32(head[at+4:], 0)
	none(t, head, l.Size)
}

// nested is an array of arrays.
func nested(depth int) []byte {
	b := []byte("GGUF\x03\x00\x00\x00")
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = append(binary.LittleEndian.AppendUint64(b, 1), 'k')
	b = binary.LittleEndian.AppendUint32(b, 9)
	for range depth {
		b = binary.LittleEndian.AppendUint32(b, 9)
		b = binary.LittleEndian.AppendUint64(b, 1)
	}
	return b
}

func TestDeepArrays(t *testing.T) {
	head := nested(1 << 16)
	none(t, head, int64(len(head)))
}

func safetensors(text string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
}

func TestHostileSafetensors(t *testing.T) {
	const good = `"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	ones, long := strings.Repeat("1,", 20), strings.Repeat("n", 300)
	deep := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	for what, text := range map[string]string{
		"twice the same name":  `{` + good + `,` + good + `}`,
		"tensors that overlap": `{` + good + `,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`,
		"an end before":        `{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`,
		"an end beyond":        `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,80]}}`,
		"a negative offset":    `{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,8]}}`,
		"an offset beyond":     `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999999999999999]}}`,
		"a fraction":           `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.5]}}`,
		"three offsets":        `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,16]}}`,
		"no offsets":           `{"a":{"dtype":"F32","shape":[2]}}`,
		"dimensions":           `{"a":{"dtype":"F32","shape":[` + ones + `1],"data_offsets":[0,8]}}`,
		"a long name":          `{"` + long + `":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`,
		"a long dtype":         `{"a":{"dtype":"` + long + `","shape":[2],"data_offsets":[0,8]}}`,
		"no object":            `{"a":17}`,
		"a list":               `[` + good + `]`,
		"deep":                 `{"__metadata__":` + deep + `,` + good + `}`,
	} {
		t.Run(what, func(t *testing.T) {
			head := safetensors(text)
			none(t, head, int64(len(head))+16)
		})
	}
	head := safetensors(`{` + good + `}`)
	_, err := read(head, int64(len(head))+16)
	require.NoError(t, err)
	none(t, put(head, 0, 17<<20), 1<<40)
	none(t, put(head, 0, ^uint64(0)), 1<<40)
}

// What a later version of a format adds to a tensor does not matter.
func TestUnknownFieldsOfSafetensors(t *testing.T) {
	head := safetensors(`{"a":{"new":{"x":[1,{}]},"dtype":"F4","shape":[],"data_offsets":[0,8]}}  `)
	got, err := read(head, int64(len(head))+8)
	require.NoError(t, err)
	assert.Len(t, got, 1)
}

type failingReader struct{ error }

func (r failingReader) ReadAt([]byte, int64) (int, error) { return 0, r.error }

func TestDiskThatCannotBeRead(t *testing.T) {
	broken := errors.New("broken")
	_, err := tensorfile.Read(failingReader{broken}, 100, 100)
	require.ErrorIs(t, err, broken)
}

func FuzzRead(f *testing.F) {
	file := small()
	file.Vocab = []string{"a", "b"}
	file.Alignment = 16
	for _, l := range []tensortest.Layout{file.GGUF(), file.Safetensors()} {
		f.Add(l.Head, l.Size)
		f.Add(l.Head[:len(l.Head)/2], l.Size)
	}
	f.Add(nested(10), int64(1000))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		if size < 0 {
			return
		}
		tensors, err := read(head, size)
		have := min(int64(len(head)), size)
		if short, ok := errors.AsType[*tensorfile.ShortError](err); ok {
			if short.Need <= have || short.Need > size {
				t.Fatalf("%d bytes are needed of %d, %d are there", short.Need, size, have)
			}
			return
		}
		if err == nil && len(tensors) == 0 {
			t.Fatal("no tensors and no error")
		}
		end := int64(1)
		for _, x := range tensors {
			if x.Start < end || x.Len() <= 0 || x.End > size {
				t.Fatalf("tensor %v after %d", x, end)
			}
			end = x.End
		}
	})
}
