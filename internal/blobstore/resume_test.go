package blobstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/pieces"
)

// TestResume continues what an earlier run has left, with writers that are cut in other ways.
func TestResume(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	dg := digestOf(content)
	d := open(t, dir)
	for _, r := range []pieces.Range{
		{Start: 0, End: 5e6}, {Start: 20e6, End: 21e6}, {Start: 12e6, End: 20e6}, {Start: 5e6, End: 7e6},
		{Start: large - 1, End: large},
	} {
		p := claim(t, d, content)
		write(t, p, content, r.Start, r.End)
		require.NoError(t, p.Close(true))
	}
	assert.Equal(t, int64(16e6+1), d.BytesOnDisk(dg, large))
	p := claim(t, d, content)
	assert.Equal(t, []pieces.Range{{Start: 7e6, End: 12e6}, {Start: 21e6, End: large - 1}}, p.Missing())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}

// TestS11LeftBehind claims a large blob of which all kinds of things were left.
func TestS11LeftBehind(t *testing.T) {
	t.Parallel()
	content := random(large)
	dg := digestOf(content)
	name := nameOf(dg)
	header := appendHeader(nil, large)
	all := append(append([]byte{}, header...), appendRecord(nil, at(0, large, 1))...)
	for what, test := range map[string]struct {
		partial, journal, prefix []byte
		missing                  int64 // at first
		half                     int64
	}{
		"prefix":                         {nil, nil, content[:1000], large - 1000, 1000},
		"empty prefix":                   {nil, nil, []byte{}, large, 0},
		"whole prefix":                   {nil, nil, content, 0, large},
		"prefix that is too long":        {nil, nil, append(content, 1), large, 0},
		"wrong prefix":                   {nil, nil, make([]byte, 5e6), large - 5e6, 5e6},
		"wrong whole prefix":             {nil, nil, make([]byte, large), 0, large},
		"data without journal":           {content[:1000], nil, nil, large, 0},
		"all data without journal":       {content, nil, nil, 0, large},
		"wrong data without journal":     {make([]byte, large), nil, nil, 0, large},
		"too much data":                  {append(content, 1), nil, nil, large, 0},
		"unreadable journal":             {content, []byte("x"), nil, large, 0},
		"journal of another size":        {content, appendHeader(nil, 5), nil, large, 0},
		"journal without records":        {content, header, nil, large, 0},
		"journal that claims more":       {content[:1000], all, nil, large, 0},
		"journal that claims wrong data": {content, all, nil, 0, large},
		"too much data, journal":         {append(content, 1), header, nil, large, 0},
		"journal without data":           {nil, all, nil, large, 0},
		"empty data":                     {[]byte{}, nil, nil, large, 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for suffix, b := range map[string][]byte{
				partialSuffix: test.partial, journalSuffix: test.journal, prefixSuffix: test.prefix,
			} {
				if b != nil {
					require.NoError(t, os.WriteFile(filepath.Join(dir, name+suffix), b, 0o644))
				}
			}
			d := open(t, dir)
			assert.Equal(t, test.half, d.BytesOnDisk(dg, large))
			p := claim(t, d, content)
			p.hasher.stop() // which may have found damage before Missing is asked
			missing := int64(0)
			for _, r := range p.Missing() {
				missing += r.Len()
			}
			if !p.record.damaged {
				assert.Equal(t, test.missing, missing)
			}
			p.hasher.start()
			fill(t, p, content)
			var mismatch *MismatchError
			if err := p.Commit(t.Context()); errors.As(err, &mismatch) {
				fill(t, p, content)
				require.NoError(t, p.Commit(t.Context()))
			} else {
				require.NoError(t, err)
			}
			require.NoError(t, p.Close(false))
			requireBlob(t, dir, content)
		})
	}
}

func TestSmallPrefixIsAdopted(t *testing.T) {
	const size = 100_000
	content := random(size)
	dg := digestOf(content)
	for what, test := range map[string]struct {
		prefix  []byte
		missing []pieces.Range
		again   []pieces.Range // after the first commit
	}{
		"good":     {content[:600], []pieces.Range{{Start: 600, End: size}}, nil},
		"whole":    {content, nil, nil},
		"too long": {append(content, 1), []pieces.Range{{Start: 0, End: size}}, nil},
		"wrong":    {make([]byte, 600), []pieces.Range{{Start: 600, End: size}}, []pieces.Range{{End: 600}}},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, nameOf(dg)+prefixSuffix), test.prefix, 0o644))
			p := claim(t, open(t, dir), content)
			assert.Equal(t, test.missing, p.Missing())
			fill(t, p, content)
			if test.again != nil {
				require.Error(t, p.Commit(t.Context()))
				assert.Equal(t, test.again, p.Missing(), "what was adopted is the likelier cause")
				fill(t, p, content)
			}
			commit(t, p)
			requireBlob(t, dir, content)
		})
	}
}

func TestAdoptedPrefixIsKept(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	path := filepath.Join(dir, nameOf(digestOf(content))+prefixSuffix)
	require.NoError(t, os.WriteFile(path, content[:3e6], 0o644))
	d := open(t, dir)
	require.NoError(t, claim(t, d, content).Close(true))
	p := claim(t, d, content)
	assert.Equal(t, []pieces.Range{{Start: 3e6, End: large}}, p.Missing())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}

func TestS12OneOfManyFetches(t *testing.T) {
	t.Parallel()
	for what, lock := range map[string]func(*os.File) error{
		"with locks":    filelock.Lock,
		"without locks": func(*os.File) error { return filelock.ErrUnsupported },
	} {
		t.Run(what, func(t *testing.T) {
			content, dir := random(50_000), t.TempDir()
			var fetched, found atomic.Int32
			var callers sync.WaitGroup
			for range 8 {
				d := open(t, dir)
				d.folder.lock = lock
				callers.Go(func() {
					p, err := d.Claim(t.Context(), digestOf(content), 50_000)
					if errors.Is(err, ErrThere) {
						found.Add(1)
						return
					}
					if assert.NoError(t, err) {
						fetched.Add(1)
						fill(t, p, content)
						assert.NoError(t, p.Commit(t.Context()))
						assert.NoError(t, p.Close(true))
					}
				})
			}
			callers.Wait()
			assert.Equal(t, int32(8), fetched.Load()+found.Load())
			if what == "with locks" {
				assert.Equal(t, int32(1), fetched.Load())
			}
			requireBlob(t, dir, content)
		})
	}
}

func TestNextClaimGoesOn(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	first := claim(t, open(t, dir), content)
	write(t, first, content, 0, 6e6)
	second := open(t, dir)
	_, err := second.tryClaim(t.Context(), first.hasher.want, large, 0)
	require.ErrorIs(t, err, filelock.ErrBusy)
	require.NoError(t, first.Close(true))
	p := claim(t, second, content)
	assert.Equal(t, []pieces.Range{{Start: 6e6, End: large}}, p.Missing())
	require.NoError(t, p.Close(false))
	assert.Empty(t, files(t, dir))
}

func TestLeftoversAreSwept(t *testing.T) {
	content, dir := random(1000), t.TempDir()
	name := nameOf(digestOf(content))
	others := []string{"sha256-other.partial-dead", "sha256-other.tmp", "sha256-other.journal"}
	ours := []string{name + ".partial-dead", name + ".partial-held", name + ".tmp", name + ".journal"}
	for _, left := range append(ours, others...) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, left), make([]byte, 2000), 0o644))
	}
	held, err := os.OpenFile(filepath.Join(dir, name+".partial-held"), os.O_RDWR, 0)
	require.NoError(t, err)
	defer held.Close()
	require.NoError(t, filelock.Lock(held))

	d := open(t, dir)
	p := claim(t, d, content)
	assert.NotContains(t, files(t, dir), name+".partial-dead")
	fill(t, p, content)
	commit(t, p)
	assert.ElementsMatch(t, append(others, name, name+".partial-held"), files(t, dir))
}

func TestLockErrorIsNoClaim(t *testing.T) {
	content, dir := random(1000), t.TempDir()
	d := open(t, dir)
	d.folder.lock = func(*os.File) error { return syscall.EIO }
	_, err := d.Claim(t.Context(), digestOf(content), 1000)
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	require.ErrorIs(t, err, syscall.EIO)

	d.folder.lock = filelock.Lock
	p := claim(t, d, content)
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}
