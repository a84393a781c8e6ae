package registrytest

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/rand/v2"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Content is made-up data of a blob, and its digest. It must not be changed.
type Content struct {
	Data   []byte
	Digest digest.Digest

	head hash.Cloner // the hash of all but the last bytes
}

// numberSize is how many bytes at the end of content a number takes.
const numberSize = 8

// contents are functions that return what was made, by size and seed. Hashing takes longer than most tests.
var contents sync.Map

// contentKey is what content is made from.
type contentKey struct {
	size int
	seed uint64
}

// ContentOf returns random bytes, the same each time for a size and a seed. No two are alike at any place.
func ContentOf(size int, seed uint64) Content {
	once, _ := contents.LoadOrStore(contentKey{size, seed}, sync.OnceValue(func() Content {
		start := int(rand.NewPCG(uint64(size), seed).Uint64() % starts)
		return contentFrom(pool.slice(start, start+size))
	}))
	return once.(func() Content)()
}

const (
	// poolSize is how many random bytes there are for all content that is not larger.
	poolSize = 88 << 20

	// starts is at how many places of the pool content may begin.
	starts = 4 << 20
)

// pool has the random bytes of all content.
var pool = randomPool{source: rand.NewChaCha8([32]byte{1})}

// randomPool is random bytes that are made when they are needed.
type randomPool struct {
	mu     sync.Mutex // guards the fields that follow
	source *rand.ChaCha8
	bytes  []byte // has the capacity of the pool
}

// slice returns the bytes [start, end) of the pool, or as many others where the pool has not so many.
func (p *randomPool) slice(start, end int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if end > poolSize {
		others := make([]byte, end-start)
		_, _ = rand.NewChaCha8([32]byte{2}).Read(others)
		return others
	}
	if p.bytes == nil {
		p.bytes = make([]byte, 0, poolSize)
	}
	if n := len(p.bytes); n < end {
		p.bytes = p.bytes[:end]
		_, _ = p.source.Read(p.bytes[n:])
	}
	return p.bytes[start:end:end]
}

func contentFrom(data []byte) Content {
	sum := sha256.New()
	rest := max(0, len(data)-numberSize)
	sum.Write(data[:rest])
	c := Content{Data: data, head: sum.(hash.Cloner)}
	c.Digest = c.digestWith(data[rest:])
	return c
}

// digestWith returns the digest of all but the last bytes, followed by these.
func (c Content) digestWith(last []byte) digest.Digest {
	sum, err := c.head.Clone()
	if err != nil {
		panic(err)
	}
	sum.Write(last)
	return digest.NewDigest(digest.SHA256, sum)
}

// Numbered returns a copy whose last bytes are the number, so that its digest is another one for each. There
// are at least eight bytes.
func (c Content) Numbered(number uint64) Content {
	data := bytes.Clone(c.Data)
	last := data[len(data)-numberSize:]
	binary.LittleEndian.PutUint64(last, number)
	return Content{Data: data, Digest: c.digestWith(last), head: c.head}
}

// zeroDigests are the digests of zeros, by their number.
var zeroDigests sync.Map

// ZeroDigest returns the digest of n zeros, which is computed once.
func ZeroDigest(n int64) digest.Digest {
	if known, ok := zeroDigests.Load(n); ok {
		return known.(digest.Digest)
	}
	sum := sha256.New()
	writeZeros(sum, n)
	d := digest.NewDigest(digest.SHA256, sum)
	zeroDigests.Store(n, d)
	return d
}

// zeroSums are the MD5 of zeros, by their number.
var zeroSums sync.Map

// bodySum is the MD5 of a body. Large bodies of zeros are summed up once.
type bodySum struct {
	zeros int64     // how many the body began with
	sum   hash.Hash // nil while there was nothing else
}

var zeroBlock = make([]byte, 256<<10)

func (s *bodySum) Write(p []byte) (int, error) {
	if s.sum == nil && len(p) <= len(zeroBlock) && bytes.Equal(p, zeroBlock[:len(p)]) {
		s.zeros += int64(len(p))
		return len(p), nil
	}
	if s.sum == nil {
		s.sum = sumOfZeros(s.zeros)
	}
	return s.sum.Write(p)
}

// Sum returns the MD5 of what was written.
func (s *bodySum) Sum() [md5.Size]byte {
	if s.sum != nil {
		return [md5.Size]byte(s.sum.Sum(nil))
	}
	if known, ok := zeroSums.Load(s.zeros); ok {
		return known.([md5.Size]byte)
	}
	sum := [md5.Size]byte(sumOfZeros(s.zeros).Sum(nil))
	zeroSums.Store(s.zeros, sum)
	return sum
}

// sumOfZeros returns the MD5 of n zeros, to which more can be written.
func sumOfZeros(n int64) hash.Hash {
	sum := md5.New()
	writeZeros(sum, n)
	return sum
}

func writeZeros(sum hash.Hash, n int64) {
	for ; n > 0; n -= int64(len(zeroBlock)) {
		sum.Write(zeroBlock[:min(n, int64(len(zeroBlock)))])
	}
}
