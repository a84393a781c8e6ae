package blobstore

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
)

func at(start, end int64, crc uint32) extent {
	return extent{Range: pieces.Range{Start: start, End: end}, crc: crc}
}

// journalOf returns the bytes of a journal of a blob of 100 bytes.
func journalOf(recorded ...extent) []byte {
	b := appendHeader(nil, 100)
	for _, e := range recorded {
		b = append(b, appendRecord(nil, e)...)
	}
	return b
}

func TestParseJournal(t *testing.T) {
	damaged := journalOf(at(0, 10, 1), at(10, 20, 2), at(20, 30, 3))
	damaged[headerSize+recordSize] ^= 1
	adopted := extent{Range: pieces.Range{Start: 0, End: 7}, adopted: true}
	first, last := at(0, 10, 2), at(50, 60, 1)
	anew := extents{at(0, 4, 2), at(4, 10, 3)}
	one := journalOf(at(0, 10, 1))
	full := int64(headerSize + recordSize)
	two := full + recordSize
	for name, test := range map[string]struct {
		data []byte
		want extents
		end  int64
	}{
		"no records":            {journalOf(), extents{}, headerSize},
		"one":                   {journalOf(at(0, 100, 9)), extents{at(0, 100, 9)}, full},
		"without a CRC":         {journalOf(adopted), extents{adopted}, full},
		"in order":              {journalOf(last, first), extents{first, last}, two},
		"torn":                  {append(one, journalOf()...), extents{at(0, 10, 1)}, full},
		"damaged in the middle": {damaged, extents{at(0, 10, 1), at(20, 30, 3)}, full + 2*recordSize},
		"zeros at the end":      {append(journalOf(), make([]byte, recordSize)...), extents{}, full},
		"beyond the size":       {journalOf(at(90, 101, 1)), extents{}, full},
		"empty range":           {journalOf(at(5, 5, 1)), extents{}, full},
		"backwards":             {journalOf(at(6, 5, 1)), extents{}, full},
		"negative":              {journalOf(at(-6, -5, 1)), extents{}, full},
		"the later one counts":  {journalOf(at(0, 10, 1), at(5, 15, 2)), extents{at(5, 15, 2)}, two},
		"also before":           {journalOf(at(5, 15, 1), at(0, 10, 2)), extents{at(0, 10, 2)}, two},
		"written anew":          {journalOf(at(0, 10, 1), anew[0], anew[1]), anew, full + 2*recordSize},
	} {
		t.Run(name, func(t *testing.T) {
			got, end, err := parseJournal(test.data, 100)
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.end, end)
		})
	}
	for name, data := range map[string][]byte{
		"empty": nil, "torn header": journalOf()[:headerSize-1], "other size": appendHeader(nil, 99),
		"text": []byte("this is certainly not a journal"),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parseJournal(data, 100)
			require.ErrorIs(t, err, errJournal)
		})
	}
}

func TestExtents(t *testing.T) {
	s := extents{at(10, 20, 1), at(20, 30, 2), at(50, 60, 3)}
	gaps := []pieces.Range{{Start: 0, End: 10}, {Start: 30, End: 50}, {Start: 60, End: 70}}
	assert.Equal(t, gaps, s.missing(70))
	assert.Equal(t, []pieces.Range{{Start: 0, End: 5}}, extents{}.missing(5))
	assert.Empty(t, extents{}.missing(0))
	assert.Equal(t, int64(30), s.bytes())
	assert.Equal(t, s[:2], s.within(59))
	assert.Equal(t, s, s.within(60))
	for _, r := range [][2]int64{{0, 11}, {19, 20}, {29, 55}, {59, 100}, {0, 100}} {
		assert.True(t, s.covers(r[0], r[1]), r)
	}
	for _, r := range [][2]int64{{0, 10}, {30, 50}, {60, 100}} {
		assert.False(t, s.covers(r[0], r[1]), r)
	}
	rest, start := slices.Clone(s).without(25)
	assert.Equal(t, int64(20), start)
	assert.Equal(t, extents{s[0], s[2]}, rest)
	rest, _ = slices.Clone(s).without(40)
	assert.Equal(t, s, rest)
}

func FuzzJournal(f *testing.F) {
	f.Add(journalOf(at(0, 10, 1), at(5, 20, 2), at(0, 100, 3)), int64(100))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		checkParsed(t, data, size)
		// The mutator does not find the CRC, so it is put right for what else it found.
		if size >= 0 {
			checkParsed(t, withChecksums(data, size), size)
		}
	})
}

// withChecksums makes a journal out of anything.
func withChecksums(data []byte, size int64) []byte {
	b := appendHeader(nil, size)
	for record := range slices.Chunk(data, recordSize-4) {
		var e [recordSize]byte
		copy(e[:], record)
		b = append(b, closeRecord(e)...)
	}
	return b
}

func checkParsed(t *testing.T, data []byte, size int64) {
	got, end, err := parseJournal(data, size)
	if err != nil {
		require.ErrorIs(t, err, errJournal)
		return
	}
	require.LessOrEqual(t, end, int64(len(data)))
	require.Less(t, int64(len(data))-end, int64(recordSize))
	last := int64(0)
	for _, e := range got {
		require.GreaterOrEqual(t, e.Start, last)
		require.Greater(t, e.End, e.Start)
		last = e.End
	}
	require.LessOrEqual(t, last, size)
	again, _, err := parseJournal(rebuilt(got, size), size)
	require.NoError(t, err)
	require.Equal(t, got, again)
	require.LessOrEqual(t, got.bytes(), int64(math.MaxInt64))
}

func rebuilt(s extents, size int64) []byte {
	b := appendHeader(nil, size)
	for _, e := range s {
		b = append(b, appendRecord(nil, e)...)
	}
	return b
}

func BenchmarkParseJournal(b *testing.B) {
	const segments = 20_000 // 80 GB
	data := appendHeader(nil, segments*minSegment)
	for i := range int64(segments) {
		data = append(data, appendRecord(nil, at(i*minSegment, (i+1)*minSegment, 1))...)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = parseJournal(data, segments*minSegment)
	}
}

func closeRecord(b [recordSize]byte) []byte {
	sum := crc32.Checksum(b[:recordSize-4], castagnoli)
	return binary.LittleEndian.AppendUint32(b[:recordSize-4:recordSize-4], sum)
}

// A journal that is far too long, which somebody else has made, is not read into memory (I8).
func TestI8JournalThatIsTooLong(t *testing.T) {
	dir := t.TempDir()
	name := nameOf(digest.FromString("x"))
	data := append(appendHeader(nil, large), appendRecord(nil, at(0, 1000, 1))...)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+journalSuffix), data, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+partialSuffix), make([]byte, 2000), 0o644))
	d := open(t, dir)
	assert.EqualValues(t, 1000, d.BytesOnDisk(digest.FromString("x"), large))
	require.NoError(t, os.Truncate(filepath.Join(dir, name+journalSuffix), 3*maxJournal))
	assert.Zero(t, d.BytesOnDisk(digest.FromString("x"), large))

	f, err := os.Open(filepath.Join(dir, name+journalSuffix))
	require.NoError(t, err)
	defer f.Close()
	_, _, err = readJournal(f, large)
	require.ErrorIs(t, err, errJournal)
	read, err := f.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	assert.LessOrEqual(t, read, int64(maxJournal+1))
}

// S8: a new journal is a new file, whatever has its name.
func TestS8NewJournalTakesNothingOver(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, path string){
		"file": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("theirs"), 0o644))
		},
		"link": linkTo([]byte("theirs")),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x"+journalSuffix)
			put(t, path)
			theirs, err := os.Open(path)
			require.NoError(t, err)
			defer theirs.Close()
			j := journal{folder: open(t, dir).folder, name: "x" + journalSuffix, size: large}
			require.NoError(t, j.begin())
			require.NoError(t, j.close())
			left, err := io.ReadAll(theirs)
			require.NoError(t, err)
			assert.Equal(t, "theirs", string(left))
			left, err = os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, appendHeader(nil, large), left)
		})
	}
}

// S8: a directory at the partial's name has no half of the blob, whatever the journal says.
func TestS8JournalOfADirectory(t *testing.T) {
	dir := t.TempDir()
	name := nameOf(digest.FromString("x"))
	data := append(appendHeader(nil, large), appendRecord(nil, at(0, 10, 1))...)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+journalSuffix), data, 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, name+partialSuffix), 0o755))
	assert.Zero(t, open(t, dir).BytesOnDisk(digest.FromString("x"), large))
}

// S8: what takes the name of a journal while it is made makes no claim look as if the blob were finished.
func TestS8JournalAppearsWhileItIsMade(t *testing.T) {
	content, dir := random(large), t.TempDir()
	d := open(t, dir)
	name := filepath.Join(dir, journalName(dataName(nameOf(digestOf(content)), 0)))
	var stop atomic.Bool
	var other sync.WaitGroup
	other.Go(func() {
		for !stop.Load() {
			_ = os.WriteFile(name, nil, 0o644)
		}
	})
	defer other.Wait()
	defer stop.Store(true)
	for range 500 {
		p, err := d.Claim(t.Context(), digestOf(content), large)
		require.NoError(t, err)
		require.NoError(t, p.Close(false))
	}
}
