// Package prefixhash hashes a blob from its first byte on, and can return to an earlier point.
package prefixhash

import (
	"encoding/hex"
	"hash"

	"github.com/opencontainers/go-digest"
)

// Hash is the hash of the first bytes of a blob. It is not safe for concurrent use.
type Hash struct {
	algorithm digest.Algorithm
	state     hash.Hash
	length    int64
}

// New returns the hash of no bytes. The algorithm must be available.
func New(a digest.Algorithm) Hash { return Hash{algorithm: a, state: a.Hash()} }

// Len returns how many bytes were hashed: the offset of the next one.
func (h *Hash) Len() int64 { return h.length }

// Write hashes the bytes that follow. It never fails.
func (h *Hash) Write(b []byte) (int, error) {
	_, _ = h.state.Write(b)
	h.length += int64(len(b))
	return len(b), nil
}

// Digest returns the digest of the bytes that were hashed.
func (h *Hash) Digest() digest.Digest {
	return digest.Digest(h.algorithm.String() + ":" + hex.EncodeToString(h.state.Sum(nil)))
}

// Reset returns to the first byte.
func (h *Hash) Reset() {
	h.state.Reset()
	h.length = 0
}

// Snapshot is a point to which a Hash can return once. The zero Snapshot is the first byte.
type Snapshot struct {
	state  hash.Hash
	length int64
}

// Len returns the offset of the byte that follows the snapshot.
func (s Snapshot) Len() int64 { return s.length }

// Snapshot returns the point that was reached. It is the first byte where the algorithm's state cannot be
// copied; those of the standard library can.
func (h *Hash) Snapshot() Snapshot {
	if c, ok := h.state.(hash.Cloner); ok {
		if state, err := c.Clone(); err == nil {
			return Snapshot{state, h.length}
		}
	}
	return Snapshot{}
}

// Restore returns to a snapshot of this Hash. A snapshot can be restored once.
func (h *Hash) Restore(s Snapshot) {
	if s.state == nil {
		h.Reset()
		return
	}
	h.state, h.length = s.state, s.length
}
