package pace

import "sync"

// ChunkSize is how large the chunks of uploads are: as large as what takes them allows, which
// is only found out by being refused.
type ChunkSize struct {
	least int64

	mu         sync.Mutex // guards the fields that follow
	size, most int64
}

// NewChunkSize returns a size that starts so, and moves between the other two.
func NewChunkSize(start, least, most int64) *ChunkSize {
	return &ChunkSize{least: least, size: start, most: most}
}

// Size is how large the next chunk may be.
func (c *ChunkSize) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// Refused makes chunks smaller than one that was refused, and keeps them so. It reports whether
// they are smaller now.
func (c *ChunkSize) Refused(size int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size <= c.least {
		return false
	}
	c.size = min(c.size, max(size/2, c.least))
	c.most = c.size
	return true
}

// Taken makes chunks larger after one of the size that they have was taken.
func (c *ChunkSize) Taken(size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size >= c.size {
		c.size = min(2*c.size, c.most)
	}
}
