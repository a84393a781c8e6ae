package blobstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// A journal is a header and records of fixed size, all little-endian and each closed by the
// CRC-32C of what comes before it:
//
//	header: magic [8], version uint32, size of the blob uint64, crc uint32
//	record: start uint64, end uint64, crc of the bytes uint32, flags uint32, crc uint32
const (
	journalMagic   = "blobjrnl"
	journalVersion = 1
	headerSize     = 24
	recordSize     = 28

	flagAdopted = 1 << 0 // the CRC of the bytes is not known

	// maxJournal bounds the memory that a journal can claim. It is enough for 4 TiB in segments.
	maxJournal = 32 << 20 // 32 MiB
)

var errJournal = errors.New("unreadable journal")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errInTheWay means that something has the name of a journal and cannot be removed.
var errInTheWay = errors.New("something has the name of the journal")

// journal is the journal of a partial. A nil journal records nothing.
type journal struct {
	folder *folder
	name   string
	size   int64 // of the blob

	// mu guards the fields that follow, and the end of the file. It is held while a record is written.
	mu      sync.Mutex
	file    *os.File // nil before begin
	waiting extents  // records that were made before begin
	end     int64
	record  [recordSize]byte
}

// begin makes the file of a journal that has none, with what was recorded until now. Whatever else has its
// name is removed. The error matches errInTheWay where that cannot be.
func (j *journal) begin() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file != nil {
		return nil
	}
	f, err := j.create()
	if err != nil {
		return err
	}
	all := appendHeader(nil, j.size)
	for _, e := range j.waiting {
		all = append(all, appendRecord(j.record[:0], e)...)
	}
	if _, err := f.WriteAt(all, 0); err != nil {
		return errors.Join(err, f.Close(), j.folder.remove(j.name))
	}
	j.file, j.waiting, j.end = f, nil, int64(len(all))
	return nil
}

func (j *journal) create() (*os.File, error) {
	fi, err := j.folder.root.Lstat(j.name)
	if err == nil && fi.IsDir() {
		return nil, errInTheWay
	}
	if err == nil {
		if err = j.folder.remove(j.name); errors.Is(err, fs.ErrPermission) {
			return nil, errInTheWay
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := j.folder.create(j.name)
	if errors.Is(err, fs.ErrExist) {
		return nil, errInTheWay // come since
	}
	return f, err
}

// openJournal opens the journal that an earlier run left. The error matches errJournal when it is of no use,
// and [fs.ErrNotExist] when there is none.
func openJournal(d *folder, name string, size int64) (*journal, extents, error) {
	f, err := d.openOwn(name, os.O_RDWR)
	if err != nil {
		return nil, nil, err
	}
	recorded, end, err := readJournal(f, size)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return &journal{file: f, folder: d, name: name, size: size, end: end}, recorded, nil
}

func readJournal(f *os.File, size int64) (recorded extents, end int64, err error) {
	data, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	switch {
	case err != nil:
		return nil, 0, err
	case len(data) > maxJournal:
		return nil, 0, errJournal
	}
	return parseJournal(data, size)
}

// parseJournal returns the extents that a journal names and the offset where the next record
// goes. Records that are damaged are passed over, a torn one at the end too.
func parseJournal(data []byte, size int64) (recorded extents, end int64, err error) {
	if size < 0 || len(data) < headerSize || string(data[:headerSize]) != string(appendHeader(nil, size)) {
		return nil, 0, errJournal
	}
	count := (len(data) - headerSize) / recordSize
	all := make([]extent, 0, count)
	for i := range count {
		if e, ok := parseRecord(data[headerSize+i*recordSize:][:recordSize], size); ok {
			all = append(all, e)
		}
	}
	return disjoint(all), int64(headerSize + count*recordSize), nil
}

func parseRecord(b []byte, size int64) (e extent, ok bool) {
	const closing = recordSize - 4
	if crc32.Checksum(b[:closing], castagnoli) != binary.LittleEndian.Uint32(b[closing:]) {
		return extent{}, false
	}
	start, end := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if start >= end || end > uint64(size) {
		return extent{}, false
	}
	e.Range = pieces.Range{Start: int64(start), End: int64(end)}
	e.crc = binary.LittleEndian.Uint32(b[16:])
	e.adopted = binary.LittleEndian.Uint32(b[20:])&flagAdopted != 0
	return e, true
}

func appendHeader(b []byte, size int64) []byte {
	b = append(b, journalMagic...)
	b = binary.LittleEndian.AppendUint32(b, journalVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendRecord(b []byte, e extent) []byte {
	var flags uint32
	if e.adopted {
		flags |= flagAdopted
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Start))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.End))
	b = binary.LittleEndian.AppendUint32(b, e.crc)
	b = binary.LittleEndian.AppendUint32(b, flags)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// add appends a record. It is not synced: the CRC tells when the journal claims more than the disk has.
func (j *journal) add(e extent) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		j.waiting = append(j.waiting, e)
		return nil
	}
	if _, err := j.file.WriteAt(appendRecord(j.record[:0], e), j.end); err != nil {
		return err // the next record overwrites what was written of this one
	}
	j.end += recordSize
	return nil
}

func (j *journal) addAll(s extents) error {
	for _, e := range s {
		if err := j.add(e); err != nil {
			return err
		}
	}
	return nil
}

// reset forgets all records.
func (j *journal) reset() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		j.waiting = nil
		return nil
	}
	j.end = headerSize
	return j.file.Truncate(headerSize)
}

func (j *journal) close() error {
	if j == nil || j.file == nil {
		return nil
	}
	if err := j.file.Close(); !errors.Is(err, os.ErrClosed) { // it was removed
		return err
	}
	return nil
}

func (j *journal) remove() error {
	if j == nil || j.file == nil {
		return nil
	}
	_ = j.file.Close() // it goes anyway
	return j.folder.remove(j.name)
}
