package push

import "sync"

// chunkSize is the size of the chunks of uploads. It grows while a registry takes the chunks, and shrinks
// when the registry refuses one: what a registry takes is not announced.
type chunkSize struct {
	least int64

	mu         sync.Mutex // guards the fields that follow
	size, most int64
}

// newChunkSize returns a size that starts at start, and stays between least and most.
func newChunkSize(start, least, most int64) *chunkSize {
	return &chunkSize{least: least, size: start, most: most}
}

// Size returns the size of the next chunk.
func (c *chunkSize) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// Refused makes chunks smaller than the one of that size that was refused, where they may be, and keeps them
// so.
func (c *chunkSize) Refused(size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size = min(c.size, max(size/2, c.least))
	c.most = c.size
}

// Taken doubles the size after a whole chunk was taken.
func (c *chunkSize) Taken(size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size >= c.size {
		c.size = min(2*c.size, c.most)
	}
}
