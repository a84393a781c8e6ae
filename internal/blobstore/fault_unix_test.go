//go:build unix

package blobstore

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/pieces"
)

// writeLimited writes more than a file may have. It returns 0 when all is as it should be.
func writeLimited(dir string) int {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return 3
	}
	for _, size := range []int{2 << 20, large} {
		if code := writeBeyondLimit(dir, random(size)); code != 0 {
			return code
		}
	}
	return 0
}

func writeBeyondLimit(dir string, content []byte) int {
	d, err := Open(dir)
	if err != nil {
		return 4
	}
	p, err := d.Claim(context.Background(), digestOf(content), int64(len(content)))
	if err != nil {
		return 5
	}
	const step = 300_000
	w := p.WriterAt(0)
	for off := 0; err == nil; off += step {
		_, err = w.Write(content[off : off+step])
	}
	path := filepath.Join(dir, p.data.name)
	if pe, ok := err.(*fs.PathError); !ok || pe.Err != syscall.EFBIG || pe.Path != path {
		return 6
	}
	if w.Close() == nil || p.Commit(context.Background()) == nil || p.Close(true) != nil {
		return 7
	}
	if d.BytesOnDisk(p.hasher.want, p.record.size) != 3*step {
		return 8
	}
	if d.Close() != nil {
		return 9
	}
	return 0
}

func TestS3FileTooLarge(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"=limited", childDir+"="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, size := range []int{2 << 20, large} {
		content := random(size)
		p := claim(t, open(t, dir), content)
		want := []pieces.Range{{Start: 900_000, End: int64(size)}}
		assert.Equal(t, want, p.Missing(), "what was recorded")
		fill(t, p, content)
		commit(t, p)
	}
	assert.Len(t, files(t, dir), 2)
}

// inTheWay puts things that are no files at a path. The function tells whether they are as they were.
var inTheWay = map[string]func(t *testing.T, path string) (untouched func()){
	"link to a file": func(t *testing.T, path string) func() {
		linkTo([]byte("victim"))(t, path)
		return func() {
			got, err := os.ReadFile(path + ".victim")
			require.NoError(t, err)
			assert.Equal(t, "victim", string(got))
		}
	},
	"dangling link": func(t *testing.T, path string) func() {
		require.NoError(t, os.Symlink("nowhere", path))
		return func() {
			assert.NoFileExists(t, filepath.Join(filepath.Dir(path), "nowhere"))
		}
	},
	"link out of the directory": func(t *testing.T, path string) func() {
		victim := filepath.Join(t.TempDir(), "victim")
		require.NoError(t, os.WriteFile(victim, []byte("victim"), 0o644))
		require.NoError(t, os.Symlink(victim, path))
		return func() {
			got, err := os.ReadFile(victim)
			require.NoError(t, err)
			assert.Equal(t, "victim", string(got))
		}
	},
	"pipe": func(t *testing.T, path string) func() {
		require.NoError(t, syscall.Mkfifo(path, 0o644))
		return func() {
			fi, err := os.Lstat(path)
			require.NoError(t, err)
			assert.Equal(t, fs.ModeNamedPipe, fi.Mode().Type())
		}
	},
	"directory": func(t *testing.T, path string) func() {
		require.NoError(t, os.Mkdir(path, 0o755))
		return func() { assert.DirExists(t, path) }
	},
}

func TestS8InTheWay(t *testing.T) {
	t.Parallel()
	for what, put := range inTheWay {
		for _, suffix := range []string{partialSuffix, journalSuffix, prefixSuffix} {
			t.Run(what+" at "+suffix, func(t *testing.T) {
				t.Parallel()
				content, dir := random(large), t.TempDir()
				dg := digestOf(content)
				path := filepath.Join(dir, nameOf(dg)+suffix)
				untouched := put(t, path)
				d := open(t, dir)
				assert.Zero(t, d.BytesOnDisk(dg, large))

				p := claim(t, d, content)
				write(t, p, content, 0, 1000)
				require.NoError(t, p.Close(true))
				if what != "pipe" || suffix != journalSuffix { // only the holder uses that name
					untouched()
				}
				if what != "directory" || suffix != journalSuffix {
					assert.EqualValues(t, 1000, d.BytesOnDisk(dg, large), "it can be continued all the same")
				}
				p = claim(t, d, content)
				fill(t, p, content)
				commit(t, p)
				ok, err := d.Check(t.Context(), dg, large)
				require.NoError(t, err)
				assert.True(t, ok)
				if what == "directory" {
					untouched()
					require.NoError(t, os.Remove(path))
				}
				_, err = os.Lstat(path)
				require.ErrorIs(t, err, fs.ErrNotExist, "S21: it goes in the end")
				assert.Subset(t, []string{nameOf(dg), filepath.Base(path) + ".victim"}, files(t, dir))
			})
		}
	}
}

// S21: what somebody has put under the name of the partial, and that cannot be written, makes nobody fetch
// for himself: all agree on another name.
func TestS21AllAgreeOnAnotherName(t *testing.T) {
	t.Parallel()
	content := random(large)
	for what, put := range inTheWay {
		for n := range sharedNames {
			t.Run(what+" at "+dataName("", n), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				for i := range n {
					put(t, filepath.Join(dir, dataName(nameOf(digestOf(content)), i)))
				}
				first := claim(t, open(t, dir), content)
				write(t, first, content, 0, 1000)
				second := open(t, dir)
				_, err := second.tryClaim(t.Context(), first.hasher.want, large, 0)
				require.ErrorIs(t, err, filelock.ErrBusy)
				require.NoError(t, first.Close(true))
				p := claim(t, second, content)
				assert.EqualValues(t, 1000, p.Missing()[0].Start)
				require.NoError(t, p.Close(false))
			})
		}
	}
}

func TestS7S10FinalNameIsReplaced(t *testing.T) {
	content := random(1000)
	dg := digestOf(content)
	for what, put := range inTheWay {
		if what == "directory" {
			continue // S6
		}
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, nameOf(dg))
			put(t, path)
			p := claim(t, open(t, dir), content)
			fill(t, p, content)
			commit(t, p)
			fi, err := os.Lstat(path)
			require.NoError(t, err)
			assert.True(t, fi.Mode().IsRegular())
			if what == "link to a file" {
				got, err := os.ReadFile(path + ".victim")
				require.NoError(t, err)
				assert.Equal(t, "victim", string(got))
			}
		})
	}
	t.Run("wrong size", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, nameOf(dg)), []byte("short"), 0o644))
		p := claim(t, open(t, dir), content)
		fill(t, p, content)
		commit(t, p)
		requireBlob(t, dir, content)
	})
}

func TestS6DirectoryAppearsAtFinalName(t *testing.T) {
	content, dir := random(1000), t.TempDir()
	p := claim(t, open(t, dir), content)
	fill(t, p, content)
	require.NoError(t, os.Mkdir(filepath.Join(dir, p.name), 0o755))
	err := p.Commit(t.Context())
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	require.ErrorIs(t, err, syscall.EISDIR)
	require.NotErrorIs(t, err, fs.ErrExist)
	require.NoError(t, p.Close(true))
	assert.Equal(t, []string{p.name, p.name + partialSuffix}, files(t, dir))
}

// withDescriptors runs a function while only that many more files can be opened.
func withDescriptors(t *testing.T, n int, test func()) {
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 100, Max: before.Max}))
	var taken []int
	for {
		fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	for i, fd := range taken {
		if i == n {
			test()
		}
		require.NoError(t, syscall.Close(fd))
	}
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
}

// S17: what earlier runs left is not thrown away because it cannot be opened now.
func TestS17PartialIsKept(t *testing.T) {
	content := random(large)
	dg := digestOf(content)
	for what, leave := range map[string]func(t *testing.T, d *Dir) (half int64){
		"half": func(t *testing.T, d *Dir) int64 {
			p := claim(t, d, content)
			write(t, p, content, 0, 5e6)
			require.NoError(t, p.Close(true))
			return 5e6
		},
		"all data without journal": func(t *testing.T, d *Dir) int64 {
			require.NoError(t, os.WriteFile(d.folder.full(nameOf(dg)+partialSuffix), content, 0o644))
			return large
		},
		"prefix": func(t *testing.T, d *Dir) int64 {
			require.NoError(t, os.WriteFile(d.folder.full(nameOf(dg)+prefixSuffix), content[:5e6], 0o644))
			require.NoError(t, d.stale.find())
			return 5e6
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, dir)
			half := leave(t, d)
			for spare := range 3 {
				withDescriptors(t, spare, func() {
					p, err := d.Claim(t.Context(), dg, large)
					if err == nil {
						require.NoError(t, p.Close(true))
						return
					}
					require.ErrorIs(t, err, syscall.EMFILE)
				})
			}
			assert.Equal(t, half, d.BytesOnDisk(dg, large))
			p := claim(t, d, content)
			fill(t, p, content)
			commit(t, p)
			requireBlob(t, dir, content)
		})
	}
}

// S17: a blob that has a journal is finished without another descriptor.
func TestS17CommitWithTheDescriptorOfTheJournal(t *testing.T) {
	content, dir := random(large), t.TempDir()
	p := claim(t, open(t, dir), content)
	fill(t, p, content)
	withDescriptors(t, 0, func() { commit(t, p) })
	requireBlob(t, dir, content)
}

// S17: what is known of a blob that could not be given its name stays, though its journal is gone.
func TestS17CommitAfterTheJournalIsGone(t *testing.T) {
	content, dir := random(large), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	fill(t, p, content)
	require.NoError(t, p.record.journal.remove())
	require.NoError(t, p.Close(true))
	assert.EqualValues(t, large, d.BytesOnDisk(digestOf(content), large))
}

// S17: a blob that is complete is not thrown away because it cannot be given its name now.
func TestS17CommitAgain(t *testing.T) {
	content, dir := random(1000), t.TempDir()
	p := claim(t, open(t, dir), content)
	fill(t, p, content)
	withDescriptors(t, 0, func() {
		require.ErrorIs(t, p.Commit(t.Context()), syscall.EMFILE)
	})
	commit(t, p)
	requireBlob(t, dir, content)
}
