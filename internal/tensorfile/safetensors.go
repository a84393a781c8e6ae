package tensorfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// A safetensors file, https://github.com/huggingface/safetensors#format, is the length of its header, a JSON
// object, and the tensors' bytes. The object has for each tensor a dtype, a shape and the offsets of its
// first byte and behind its last, from the end of the header on.
const (
	// maxJSON bounds the memory that a header takes: a token of it may be as long. A header has some 100
	// bytes for each tensor.
	maxJSON = 16 << 20 // 16 MiB

	// maxDepth is how deep a header may be nested. The format needs 3.
	maxDepth = 16

	safetensorsMetadata = "__metadata__" // what is no tensor
)

// readSafetensors reads what follows the length of the header.
func readSafetensors(c *cursor, length uint64) (t table) {
	if length > maxJSON || length < 2 {
		c.none()
	}
	if !c.within(length) {
		return t
	}
	h := header{json: json.NewDecoder(io.LimitReader(c.r, int64(length)))}
	h.json.UseNumber()
	data := c.at + int64(length)
	h.object(func(name string) {
		if name == safetensorsMetadata {
			h.skip()
			return
		}
		x := h.tensor(name, c.size-data)
		x.Start, x.End = x.Start+data, x.End+data
		if h.err == nil && !t.add(x) {
			h.none()
		}
	})
	c.err = h.err
	return t
}

// header reads the JSON of a header, token by token. After its first error, all that it reads is empty.
type header struct {
	json  *json.Decoder
	depth int
	err   error
}

func (h *header) none() {
	if h.err == nil {
		h.err = ErrNone
	}
}

// token returns the next token, nil after an error. JSON that ends early or is wrong is no table.
func (h *header) token() json.Token {
	if h.err != nil {
		return nil
	}
	t, err := h.json.Token()
	_, wrong := errors.AsType[*json.SyntaxError](err)
	switch {
	case wrong, err == io.EOF, err == io.ErrUnexpectedEOF:
		h.none()
	case err != nil:
		h.err = err
	}
	switch t {
	case json.Delim('{'), json.Delim('['):
		h.depth++
	case json.Delim('}'), json.Delim(']'):
		h.depth--
	}
	if h.depth > maxDepth {
		h.none()
	}
	return t
}

// object calls f for each value of an object, to read it.
func (h *header) object(f func(key string)) {
	h.open('{')
	for h.more() {
		key, ok := h.token().(string)
		if !ok || len(key) > maxName {
			h.none()
			return
		}
		f(key)
	}
	h.token()
}

// array calls f for each value of an array, to read it.
func (h *header) array(f func()) {
	h.open('[')
	for h.more() {
		f()
	}
	h.token()
}

func (h *header) open(d json.Delim) {
	if h.token() != d {
		h.none()
	}
}

func (h *header) more() bool { return h.err == nil && h.json.More() }

// skip skips a value.
func (h *header) skip() {
	outside := h.depth
	for h.token(); h.err == nil && h.depth > outside; h.token() {
	}
}

// number returns a whole number that is not negative.
func (h *header) number() int64 {
	n, _ := h.token().(json.Number)
	v, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || v < 0 {
		h.none()
	}
	return v
}

// tensor reads one tensor of a file that has so many bytes behind the header. What is not known is passed
// over.
func (h *header) tensor(name string, size int64) Tensor {
	t := Tensor{Name: name}
	var dtype string
	var shape, offsets []int64
	h.object(func(key string) {
		switch key {
		case "dtype":
			dtype, _ = h.token().(string)
		case "shape":
			shape = h.numbers(maxDimensions)
		case "data_offsets":
			offsets = h.numbers(2)
		default:
			h.skip()
		}
	})
	if len(offsets) != 2 || offsets[0] > offsets[1] || offsets[1] > size || len(dtype) > maxName {
		h.none()
	}
	if h.err != nil {
		return t
	}
	for _, n := range shape {
		t.Longest = max(t.Longest, uint64(n))
	}
	t.Kind = fmt.Sprint(dtype, shape)
	t.Range = pieces.Range{Start: offsets[0], End: offsets[1]}
	return t
}

// numbers returns an array of at most so many numbers.
func (h *header) numbers(most int) (all []int64) {
	h.array(func() {
		if len(all) == most {
			h.none()
			return
		}
		all = append(all, h.number())
	})
	return all
}
